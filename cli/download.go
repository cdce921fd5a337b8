package cli

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// partSuffix ends the name of a file that has not come whole yet. Nobody else's file or object has it.
const partSuffix = ".cloudless-part"

// download is an object on its way into a file. What an earlier one left in the part file is gone on
// from; whether it was of this object shows in the checksum at the end.
type download struct {
	c        *client.Client
	object   api.Object
	root     *os.Root
	name     string
	progress func(int64)
}

func (d *download) run(ctx context.Context) error {
	f, err := d.root.OpenFile(d.name+partSuffix, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	kept, err := d.fill(ctx, f)
	if errors.Is(err, errOther) && kept > 0 { // the part was of another object
		d.progress(-d.object.Size)
		if err = f.Truncate(0); err == nil {
			_, err = d.fill(ctx, f)
		}
	}
	if errors.Is(err, errOther) {
		return errors.Join(err, d.root.Remove(d.name+partSuffix))
	}
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return d.root.Rename(d.name+partSuffix, d.name)
}

// fill brings the part file up to the whole object and checks it. kept is how much was in it before.
func (d *download) fill(ctx context.Context, f *os.File) (kept int64, err error) {
	o, sum := d.object, sumOf(d.object)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	if sum.Hash != nil {
		if kept, err = io.Copy(sum, f); err != nil {
			return kept, err
		}
	}
	if kept > o.Size || sum.Hash == nil { // of another object; or nothing would tell
		kept, sum = 0, sumOf(o)
	}
	if err := errors.Join(f.Truncate(kept), seek(f, kept)); err != nil {
		return kept, err
	}
	d.progress(kept)
	if kept < o.Size {
		r, err := d.c.GetObject(ctx, o.Bucket, o.Key, kept, o.ETag)
		if err != nil {
			return kept, err
		}
		defer r.Close()
		if _, err := io.Copy(io.MultiWriter(f, sum, counter(d.progress)), r); err != nil {
			return kept, err
		}
	}
	return kept, sum.check(o)
}

func seek(f *os.File, to int64) error {
	_, err := f.Seek(to, io.SeekStart)
	return err
}

// sum is the checksum by which an object is known: its SHA-256, or else the MD5 that its ETag is. An
// object of parts may have neither; the cluster checks its chunks all the same.
type sum struct {
	hash.Hash
	want string
}

func sumOf(o api.Object) *sum {
	switch {
	case o.SHA256 != "":
		return &sum{sha256.New(), o.SHA256}
	case !strings.Contains(o.ETag, "-"):
		return &sum{md5.New(), o.ETag}
	}
	return &sum{}
}

func (s *sum) Write(p []byte) (int, error) {
	if s.Hash == nil {
		return len(p), nil
	}
	return s.Hash.Write(p)
}

var errOther = errors.New("the checksum is another")

func (s *sum) check(o api.Object) error {
	if s.Hash == nil || hex.EncodeToString(s.Sum(nil)) == s.want {
		return nil
	}
	return api.Errorf(api.CodeInternal, "what came is not object %s of bucket %s: %w", o.Key, o.Bucket, errOther).WithHint("get it again")
}

// counter is a writer that only counts.
type counter func(int64)

func (c counter) Write(p []byte) (int, error) {
	c(int64(len(p)))
	return len(p), nil
}
