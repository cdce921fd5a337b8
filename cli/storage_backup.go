package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func storageBackup(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Write a backup of all buckets and objects, but for the bytes in chunks, to a file or standard output (-)", Args: cobra.ExactArgs(1),
		Long:    "Write the store's metadata of one moment: buckets, objects, and small objects whole. The bytes of larger ones stay in chunks on the nodes, which this does not hold.",
		Example: "  cloudless storage backup store.backup\n  cloudless storage backup - | age -r KEY >store.backup.age",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			r, err := c.BackupStorage(ctx)
			if err != nil {
				return err
			}
			defer r.Close()
			if args[0] == "-" {
				_, err := io.Copy(e.Out, r)
				return err
			}
			n, err := writeWhole(args[0], r)
			return orElse(err, func() error { return e.did(args[0], "backup is in %s, %s", args[0], human(n)) })
		}),
	}
}

// writeWhole writes a file that appears only when it is whole. It is its owner's alone.
func writeWhole(path string, r io.Reader) (n int64, err error) {
	f, err := os.OpenFile(path+partSuffix, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(f, r)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return n, errors.Join(err, os.Remove(f.Name()))
	}
	return n, os.Rename(f.Name(), path)
}

func storageRestore(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "restore FILE", Short: "Put a backup in the place of all buckets and objects", Args: cobra.ExactArgs(1),
		Long: "Put a backup in the place of all buckets and objects: what came after it is gone. A damaged backup changes nothing.\n" +
			"For 24 hours after it nodes delete no chunks, so that nothing that the backup names is lost.",
		Example: "  cloudless storage restore store.backup --yes",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := e.confirmLoss("restore " + args[0] + " in the place of all buckets and objects"); err != nil {
				return err
			}
			size, open, err := e.reopenable(args[0])
			if err != nil {
				return err
			}
			err = c.RestoreStorage(ctx, size, open)
			return orElse(err, func() error {
				return e.did(args[0], "the object store is as in %s; nothing is deleted from nodes for 24 hours", args[0])
			})
		}),
	}
}

// reopenable gives a file, or standard input, which can be read only once.
func (e *Env) reopenable(path string) (size int64, open func() (io.ReadCloser, error), err error) {
	if path == "-" {
		in := e.In
		return -1, func() (io.ReadCloser, error) {
			if in == nil {
				return nil, api.Errorf(api.CodeUnavailable, "standard input was sent already, and cannot be sent again").WithHint("use a file")
			}
			r := io.NopCloser(in)
			in = nil
			return r, nil
		}, nil
	}
	f, err := openFile(path)
	if err != nil {
		return 0, nil, err
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, nil, err
	}
	return info.Size(), func() (io.ReadCloser, error) { return openFile(path) }, nil
}
