package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func objectGet(e *Env) *cobra.Command {
	var recursive bool
	cmd := &cobra.Command{
		Use: "get BUCKET KEY [FILE]", Short: "Get an object into a file or standard output (-), or with --recursive a folder", Args: cobra.RangeArgs(2, 3), ValidArgsFunction: e.completeBuckets(),
		Long: "Get an object into a file (default: the last part of its key, here) or standard output (-). The file appears when all of it has come and has been checked.\n" +
			"Until then it is FILE.cloudless-part: if a get breaks off, give the same command again, and it goes on where it was.",
		Example: "  cloudless storage object get photos 2026/sea.jpg\n  cloudless storage object get backups home.tar - | tar x\n  cloudless storage object get site '' ./public --recursive",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			to := ""
			if len(args) == 3 {
				to = args[2]
			}
			if recursive {
				return e.getFolder(ctx, c, args[0], folder(args[1]), to)
			}
			o, err := c.Object(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			return e.getOne(ctx, c, o, to)
		}),
	}
	cmd.Flags().BoolVar(&recursive, "recursive", false, "KEY is a folder: get all under it into the folder FILE (default: here)")
	return cmd
}

func (e *Env) getOne(ctx context.Context, c *client.Client, o api.Object, to string) error {
	info, err := os.Stat(to)
	there := err == nil && to != ""
	switch {
	case to == "-":
		return e.getStream(ctx, c, o, e.Out)
	case there && !info.IsDir() && !info.Mode().IsRegular(): // a device or a pipe
		f, err := os.OpenFile(to, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(e.getStream(ctx, c, o, f), f.Close())
	case to == "" || there && info.IsDir():
		name := path.Base(o.Key)
		if strings.HasSuffix(o.Key, "/") || !filepath.IsLocal(name) || name == "." {
			return usageError("the key %q names no file", o.Key).WithHint("give a FILE to get it into")
		}
		to = filepath.Join(to, name)
	}
	root, err := os.OpenRoot(filepath.Dir(to))
	if errors.Is(err, fs.ErrNotExist) {
		return api.Errorf(api.CodeNotFound, "there is no folder %s", filepath.Dir(to))
	}
	if err != nil {
		return err
	}
	defer root.Close()
	b := e.bar("downloading "+o.Key, o.Size)
	err = (&download{c: c, object: o, root: root, name: filepath.Base(to), progress: b.add}).run(ctx)
	b.clear()
	if err != nil {
		if ctx.Err() != nil {
			e.say("interrupted; what came is kept in %s%s: the same command goes on from there", to, partSuffix)
		}
		return err
	}
	return e.did(to, "object %s/%s is in %s, %s", o.Bucket, o.Key, to, human(o.Size))
}

// getStream writes an object as it comes. That it is not the right one shows only at its end.
func (e *Env) getStream(ctx context.Context, c *client.Client, o api.Object, to io.Writer) error {
	r, err := c.GetObject(ctx, o.Bucket, o.Key, 0, o.ETag)
	if err != nil {
		return err
	}
	defer r.Close()
	b := e.bar("downloading "+o.Key, o.Size)
	defer b.clear()
	sum := sumOf(o)
	if _, err := io.Copy(io.MultiWriter(to, sum, counter(b.add)), r); err != nil {
		return err
	}
	return sum.check(o)
}

// getFolder gets all objects under a prefix into files below a folder, and nowhere else, whatever their
// keys are.
func (e *Env) getFolder(ctx context.Context, c *client.Client, bucket, prefix, to string) error {
	if to == "-" {
		return usageError("a folder cannot go to standard output")
	}
	if to == "" {
		to = "."
	}
	if err := os.MkdirAll(to, 0o777); err != nil {
		return api.Errorf(api.CodeInvalid, "the folder cannot be made: %w", err)
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	b, n := e.bar("downloading "+prefix, -1), tally{}
	defer b.clear()
	err = eachObject(ctx, c, bucket, prefix, func(ctx context.Context, o *api.Object) error {
		if err := getBelow(ctx, c, root, prefix, *o, b.add); err != nil {
			return e.classify(err).WithOp("object " + o.Key)
		}
		n.add(o)
		return nil
	})
	b.clear()
	if err == nil && n.objects.Load() == 0 {
		return api.Errorf(api.CodeNotFound, "there is nothing under %q in bucket %s", prefix, bucket)
	}
	return orElse(err, func() error {
		return e.did(to, "%d objects are in %s, %s", n.objects.Load(), to, human(n.bytes.Load()))
	})
}

func getBelow(ctx context.Context, c *client.Client, root *os.Root, prefix string, o api.Object, progress func(int64)) error {
	name, err := localName(o.Key, prefix)
	if err != nil || name == "" {
		return err
	}
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	}
	return (&download{c: c, object: o, root: root, name: name, progress: progress}).run(ctx)
}

// localName is the file for a key below a folder; "" for one that marks a folder.
func localName(key, prefix string) (string, error) {
	rest := strings.TrimPrefix(key, prefix)
	if rest == "" || strings.HasSuffix(rest, "/") {
		return "", nil
	}
	if rest == "." || path.Clean(rest) != rest || !filepath.IsLocal(filepath.FromSlash(rest)) {
		return "", api.Errorf(api.CodeInvalid, "object %q cannot be a file below a folder", key).WithHint("get it alone, and give a FILE")
	}
	return filepath.FromSlash(rest), nil
}
