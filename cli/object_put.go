package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
	"github.com/cloudless/cloudless/internal/run"
)

// putFlags say how objects are put.
type putFlags struct {
	recursive, unlessThere bool
	contentType, match     string
	meta                   []string
}

func objectPut(e *Env) *cobra.Command {
	var f putFlags
	cmd := &cobra.Command{
		Use: "put BUCKET KEY FILE", Short: "Put a file, standard input (-), or with --recursive a folder into a bucket", Args: cobra.ExactArgs(3), ValidArgsFunction: e.completeBuckets(),
		Long: "Put a file, standard input (-), or with --recursive a folder into a bucket. An object of that key is replaced.\n" +
			"Large files are sent in chunks, and only those that the cluster lacks: if a put breaks off, give the same command again, and it goes on where it was.",
		Example: "  cloudless storage object put photos 2026/sea.jpg sea.jpg\n  tar c . | cloudless storage object put backups home.tar -\n  cloudless storage object put site '' ./public --recursive",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			head, err := f.head()
			if err != nil {
				return err
			}
			p := api.ObjectPut{Bucket: args[0], Key: args[1], ObjectHead: head, Size: -1, IfAbsent: f.unlessThere, IfMatch: f.match}
			switch {
			case f.recursive:
				return e.putFolder(ctx, c, p, args[2])
			case args[2] == "-":
				return e.putStream(ctx, c, p, "standard input", e.In)
			}
			return e.putOne(ctx, c, p, args[2])
		}),
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.recursive, "recursive", false, "FILE is a folder, KEY the one to put its files under")
	fl.StringVar(&f.contentType, "content-type", "", "content type (default: by the name's end)")
	fl.StringSliceVar(&f.meta, "meta", nil, "metadata to keep with the object, k=v")
	fl.BoolVar(&f.unlessThere, "if-none-match", false, "only if there is no object of that key yet")
	fl.StringVar(&f.match, "if-match", "", "only if the object to replace has this ETag, or * for any")
	return cmd
}

func (f *putFlags) head() (api.ObjectHead, error) {
	h := api.ObjectHead{ContentType: f.contentType}
	given, err := pairs("--meta", f.meta)
	for k, v := range given {
		if h.Metadata == nil {
			h.Metadata = map[string]string{}
		}
		h.Metadata[strings.ToLower(k)] = v // headers know no upper case
	}
	if err == nil && f.unlessThere && f.match != "" {
		err = usageError("--if-none-match and --if-match exclude each other")
	}
	return h, err
}

// typed guesses the content type from a name's end, unless it is given.
func typed(p api.ObjectPut, name string) api.ObjectPut {
	if p.ContentType == "" {
		p.ContentType = mime.TypeByExtension(path.Ext(name))
	}
	return p
}

func (e *Env) putOne(ctx context.Context, c *client.Client, p api.ObjectPut, file string) error {
	f, err := openFile(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return usageError("%s is a folder", file).WithHint("--recursive puts all files in it")
	}
	if info.Mode().IsRegular() {
		p.Size = info.Size()
	}
	return e.putStream(ctx, c, typed(p, file), file, f)
}

func openFile(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.CodeNotFound, "there is no file %s", path)
	}
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "%w", err)
	}
	return f, nil
}

func (e *Env) putStream(ctx context.Context, c *client.Client, p api.ObjectPut, name string, r io.Reader) error {
	b := e.bar("uploading "+name, p.Size)
	had := int64(0)
	o, err := c.Upload(ctx, typed(p, p.Key), r, func(n int64, sent bool) {
		b.add(n)
		if !sent {
			had += n
		}
	})
	b.clear()
	if err != nil {
		if ctx.Err() != nil {
			e.say("interrupted; what was sent is kept for a while: the same command goes on from there")
		}
		return err
	}
	if had > 0 {
		e.say("%s of it were in the cluster already", human(had))
	}
	return e.objectOutcome(o, "stored")
}

// localFile is a file of a folder that is put.
type localFile struct {
	path, key string
	size      int64
}

func (e *Env) putFolder(ctx context.Context, c *client.Client, p api.ObjectPut, dir string) error {
	files, total, err := e.filesUnder(dir, folder(p.Key))
	if err != nil {
		return err
	}
	if _, err := c.Bucket(ctx, p.Bucket); err != nil {
		return err
	}
	b := e.bar(fmt.Sprintf("uploading %d files", len(files)), total)
	defer b.clear()
	err = run.Each(ctx, "files", objectsInFlight, func(_ context.Context, put func(localFile) error) error {
		for _, f := range files {
			if err := put(f); err != nil {
				return err
			}
		}
		return nil
	}, func(ctx context.Context, f localFile) error {
		if err := putFile(ctx, c, p, f, func(n int64, _ bool) { b.add(n) }); err != nil {
			return e.classify(err).WithOp(f.path)
		}
		return nil
	})
	b.clear()
	return orElse(err, func() error { return e.did(p.Bucket, "%d objects stored, %s", len(files), human(total)) })
}

func putFile(ctx context.Context, c *client.Client, p api.ObjectPut, f localFile, progress func(int64, bool)) error {
	in, err := openFile(f.path)
	if err != nil {
		return err
	}
	defer in.Close()
	p.Key, p.Size = f.key, f.size
	_, err = c.Upload(ctx, typed(p, f.path), in, progress)
	return err
}

// filesUnder lists the regular files of a folder with the keys they get. Links and devices are left out,
// and told.
func (e *Env) filesUnder(dir, prefix string) (files []localFile, total int64, err error) {
	err = filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			e.warn("%s is not a regular file, and is left out", at)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		files = append(files, localFile{at, prefix + filepath.ToSlash(rel), info.Size()})
		total += info.Size()
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, api.Errorf(api.CodeNotFound, "there is no folder %s", dir)
	}
	if len(files) == 1 && files[0].path == dir {
		return nil, 0, usageError("%s is a file", dir).WithHint("leave out --recursive")
	}
	return files, total, err
}
