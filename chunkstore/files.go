package chunkstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cloudless/cloudless/api"
)

const (
	tempPrefix   = "tmp-"
	digestPrefix = "sha256:"
)

// Files keeps artifacts by digest ("sha256:" and 64 hex digits), one file each in one folder. Its methods
// are safe for concurrent use. The time of last use is the file's modification time, so that it survives
// a restart and needs no index.
type Files struct {
	dir string
	max int64 // bytes of one artifact

	changes atomic.Uint64

	mu       sync.Mutex
	verified map[string]bool // digests whose bytes this process has checked
}

// Info is one stored artifact.
type Info struct {
	Digest string
	Size   int64
	Used   time.Time // last put, opened or asked for by path
}

// NewFiles opens the folder, makes it if need be (mode 0700), and removes what a crash left half written.
func NewFiles(dir string) (*Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, folderError(dir, err)
	}
	left, err := fs.Glob(os.DirFS(dir), tempPrefix+"*")
	if err != nil {
		return nil, folderError(dir, err)
	}
	for _, name := range left {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return nil, folderError(dir, err)
		}
	}
	return &Files{dir: dir, max: api.MaxArtifactBytes, verified: map[string]bool{}}, nil
}

// Put stores what r gives once it has the digest, durably, and returns its size. Its errors:
// CodeUnsupMedia when the bytes are not the digest's, CodeNoRoom on a full disk, CodeTooLarge over
// api.MaxArtifactBytes. A failed Put leaves nothing behind.
func (f *Files) Put(ctx context.Context, digest string, r io.Reader) (int64, error) {
	final, err := f.file(digest)
	if err != nil {
		return 0, err
	}
	tmp, err := os.CreateTemp(f.dir, tempPrefix)
	if err != nil {
		return 0, diskError(err)
	}
	defer os.Remove(tmp.Name()) // gone already after the rename
	defer tmp.Close()
	size, err := copyChecked(ctx, tmp, r, digest, f.max)
	if err != nil {
		return 0, err
	}
	if err := publish(tmp, final); err != nil {
		return 0, diskError(err)
	}
	f.markVerified(digest, true)
	f.changes.Add(1)
	return size, nil
}

// publish makes a written file visible under its name; both are durable when it returns.
func publish(tmp *os.File, final string) error {
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), final); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(final))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// copyChecked copies at most limit bytes and compares their digest.
func copyChecked(ctx context.Context, w io.Writer, r io.Reader, digest string, limit int64) (int64, error) {
	hash := sha256.New()
	src := &source{ctx: ctx, r: io.LimitReader(r, limit+1)}
	size, err := io.Copy(io.MultiWriter(w, hash), src)
	switch {
	case src.err != nil:
		return 0, fmt.Errorf("reading artifact %s: %w", digest, src.err)
	case err != nil:
		return 0, diskError(err)
	case size > limit:
		return 0, api.Errorf(api.CodeTooLarge, "artifact %s is larger than %d bytes", digest, limit)
	}
	if got := digestPrefix + hex.EncodeToString(hash.Sum(nil)); got != digest {
		return 0, api.Errorf(api.CodeUnsupMedia, "the bytes are %s, announced was %s", got, digest).
			WithHint("the upload was cut or changed on its way; send it again")
	}
	return size, nil
}

// source remembers its own error, so that a failed reader is told apart from a failed disk.
type source struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// Open gives the bytes and their number; CodeNotFound when they are not here.
func (f *Files) Open(digest string) (io.ReadSeekCloser, int64, error) {
	path, err := f.file(digest)
	if err != nil {
		return nil, 0, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, readError(digest, err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, 0, readError(digest, err)
	}
	f.touch(path)
	return file, info.Size(), nil
}

// Path is a local file with the verified bytes; CodeNotFound when they are not here.
func (f *Files) Path(digest string) (string, error) {
	path, err := f.file(digest)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", readError(digest, err)
	}
	if !f.isVerified(digest) {
		if err := f.Verify(digest); err != nil {
			return "", err
		}
	}
	f.touch(path)
	return path, nil
}

// Verify reads a stored artifact and compares its digest. One that rotted is removed and is then
// CodeNotFound, so that whoever needs it fetches it again.
func (f *Files) Verify(digest string) error {
	path, err := f.file(digest)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return readError(digest, err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return readError(digest, err)
	}
	if digestPrefix+hex.EncodeToString(hash.Sum(nil)) == digest {
		f.markVerified(digest, true)
		return nil
	}
	if err := f.Delete(digest); err != nil {
		return err
	}
	return api.Errorf(api.CodeNotFound, "the stored copy of %s was damaged and has been removed", digest)
}

// Has tells whether the digest is here.
func (f *Files) Has(digest string) bool {
	path, err := f.file(digest)
	if err != nil {
		return false
	}
	_, err = os.Stat(path)
	return err == nil
}

// List is everything that is here, in the order of the digests.
func (f *Files) List() ([]Info, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, folderError(f.dir, err)
	}
	var list []Info
	for _, e := range entries {
		digest := digestPrefix + e.Name()
		info, err := e.Info()
		if err != nil || !api.IsDigest(digest) { // removed meanwhile, or being written
			continue
		}
		list = append(list, Info{Digest: digest, Size: info.Size(), Used: info.ModTime()})
	}
	return list, nil
}

// Changes counts what this process has put, used and removed: while it is the same, List gives the same,
// unless someone else works in the folder.
func (f *Files) Changes() uint64 { return f.changes.Load() }

// Delete removes a digest; one that is not here is no error.
func (f *Files) Delete(digest string) error {
	path, err := f.file(digest)
	if err != nil {
		return err
	}
	f.markVerified(digest, false)
	defer f.changes.Add(1)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return diskError(err)
	}
	return nil
}

// Evict deletes what was not used for longest until at most maxBytes are stored, but never what keep
// names: those may alone be more than maxBytes.
func (f *Files) Evict(keep map[string]bool, maxBytes int64) (freed int64, err error) {
	list, err := f.List()
	if err != nil {
		return 0, err
	}
	var held int64
	for _, info := range list {
		held += info.Size
	}
	slices.SortStableFunc(list, func(a, b Info) int {
		return cmp.Or(a.Used.Compare(b.Used), strings.Compare(a.Digest, b.Digest))
	})
	for _, info := range list {
		if held-freed <= maxBytes {
			break
		}
		if keep[info.Digest] {
			continue
		}
		if err := f.Delete(info.Digest); err != nil {
			return freed, err
		}
		freed += info.Size
	}
	return freed, nil
}

// file is where a digest's bytes are. Only well-formed digests get one, so none leads out of the folder.
func (f *Files) file(digest string) (string, error) {
	if !api.IsDigest(digest) {
		return "", api.Errorf(api.CodeInvalid, "%q is not a digest", digest).
			WithHint("write sha256: and 64 lower-case hex digits")
	}
	return filepath.Join(f.dir, strings.TrimPrefix(digest, digestPrefix)), nil
}

func (f *Files) isVerified(digest string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.verified[digest]
}

func (f *Files) markVerified(digest string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ok {
		f.verified[digest] = true
		return
	}
	delete(f.verified, digest)
}

// touch records a use. A file that vanishes meanwhile loses nothing.
func (f *Files) touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
	f.changes.Add(1)
}

func readError(digest string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return api.Errorf(api.CodeNotFound, "artifact %s is not stored here", digest)
	}
	return fmt.Errorf("reading artifact %s: %w", digest, err)
}

func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return api.Errorf(api.CodeNoRoom, "the disk is full: %w", err).
			WithHint("free space on the disk of the data folder")
	}
	return fmt.Errorf("storing artifact: %w", err)
}

func folderError(dir string, err error) error {
	return api.Errorf(api.CodeInternal, "artifact folder %s cannot be used: %w", dir, err).
		WithHint("check that the folder exists, is writable and belongs to this user")
}
