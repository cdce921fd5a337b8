package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// artifact is a file to run, hashed and known for what it is.
type artifact struct {
	path, digest, kind string
	size               int64
}

// openArtifact looks at a file: a module, an image tarball, or an error that says what it is instead.
func openArtifact(path string) (artifact, error) {
	a := artifact{path: path}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, api.Errorf(api.CodeNotFound, "there is no file %s", path)
	}
	if err != nil {
		return a, api.Errorf(api.CodeInvalid, "%w", err)
	}
	defer f.Close()
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return a, api.Errorf(api.CodeInvalid, "%s cannot be read: %w", path, err)
	}
	if a.kind, err = kindOf(path, head[:n]); err != nil {
		return a, err
	}
	hash := sha256.New()
	hash.Write(head[:n])
	rest, err := io.Copy(hash, f)
	if err != nil {
		return a, api.Errorf(api.CodeInvalid, "%s cannot be read: %w", path, err)
	}
	a.size, a.digest = int64(n)+rest, "sha256:"+hex.EncodeToString(hash.Sum(nil))
	return a, a.checkSize()
}

func (a artifact) checkSize() error {
	limit := int64(api.MaxArtifactBytes)
	if a.kind == api.ArtifactWasm {
		limit = api.MaxModuleBytes
	}
	if a.size > limit {
		return api.Errorf(api.CodeTooLarge, "%s is %s, at most %s are allowed", a.path, human(a.size), human(limit))
	}
	return nil
}

// kindOf tells a module from an image tarball by the first bytes.
func kindOf(path string, head []byte) (string, error) {
	refuse := func(why string) (string, error) { return "", api.Errorf(api.CodeUnsupMedia, "%s %s", path, why) }
	switch {
	case bytes.HasPrefix(head, []byte("\x00asm\x01\x00\x00\x00")):
		return api.ArtifactWasm, nil
	case bytes.HasPrefix(head, []byte("\x00asm\x0d\x00\x01\x00")):
		_, err := refuse("is a WebAssembly component, which is not supported")
		return "", api.AsError(err).WithHint("build a core module, with target wasip1 for instance")
	case bytes.HasPrefix(head, []byte("\x00asm")):
		return refuse("is WebAssembly of an unknown version")
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		_, err := refuse("is compressed")
		return "", api.AsError(err).WithHint("decompress it with gunzip first")
	case len(head) >= 262 && string(head[257:262]) == "ustar":
		return api.ArtifactOCI, nil
	}
	return refuse("is neither a WebAssembly module nor an image tarball")
}

// upload brings the file into the cluster's own store, unless it is there.
func (e *Env) upload(ctx context.Context, c *client.Client, a artifact) error {
	if has, err := c.HasArtifact(ctx, a.digest); err != nil || has {
		return err
	}
	p := e.progress()
	defer p.clear()
	_, err := c.PutArtifact(ctx, a.digest, a.kind, a.size, func() (io.ReadCloser, error) {
		f, err := os.Open(a.path)
		return &meter{f, p, a, 0, 0}, err
	})
	return err
}

// meter shows how much of a file has been sent.
type meter struct {
	*os.File
	p           *progress
	a           artifact
	sent, shown int64
}

// WriteTo of the file would go past the meter.
func (m *meter) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{m})
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.File.Read(b)
	if m.sent += int64(n); m.sent-m.shown >= 256<<10 || errors.Is(err, io.EOF) {
		m.shown = m.sent
		m.p.line("uploading %s: %s of %s", m.a.path, human(m.sent), human(m.a.size))
	}
	return n, err
}

// compact is human for a column: as manifests write sizes, with no space in it.
func compact(b api.Bytes) string {
	return strings.NewReplacer(".0 ", "", " ", "").Replace(strings.TrimSuffix(human(int64(b)), "B"))
}

// human writes a size with one decimal.
func human(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
