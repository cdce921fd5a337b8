package chunkstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
)

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return digestPrefix + hex.EncodeToString(sum[:])
}

func open(t *testing.T) *Files {
	t.Helper()
	f, err := NewFiles(filepath.Join(t.TempDir(), "[artifacts")) // the name is no pattern
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func put(t *testing.T, f *Files, content string) string {
	t.Helper()
	digest := digestOf([]byte(content))
	if n, err := f.Put(t.Context(), digest, strings.NewReader(content)); err != nil || n != int64(len(content)) {
		t.Fatalf("Put = %d, %v", n, err)
	}
	return digest
}

// leftovers is everything in the folder that is not a whole artifact.
func leftovers(t *testing.T, f *Files) (left []string) {
	t.Helper()
	all, err := os.ReadDir(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if !api.IsDigest(digestPrefix + e.Name()) {
			left = append(left, e.Name())
		}
	}
	return left
}

func TestPutThenRead(t *testing.T) {
	f := open(t)
	digest := put(t, f, "hello")
	r, n, err := f.Open(digest)
	if err != nil || n != 5 {
		t.Fatalf("Open: %d, %v", n, err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "hello" {
		t.Fatalf("read %q, %v", b, err)
	}
	path, err := f.Path(digest)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "hello" {
		t.Fatalf("file has %q, %v", b, err)
	}
	if !f.Has(digest) {
		t.Error("Has = false after Put")
	}
	if info, err := os.Stat(f.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder mode %v, %v", info.Mode(), err)
	}
}

// Whoever has a list needs no other as long as the count is the same.
func TestChangesAreCounted(t *testing.T) {
	f := open(t)
	last := f.Changes()
	changed := func(what string, want bool) {
		t.Helper()
		if now := f.Changes(); (now != last) != want {
			t.Errorf("%s: %d after %d", what, now, last)
		}
		last = f.Changes()
	}
	digest := put(t, f, "hello")
	changed("put", true)
	if _, err := f.List(); err != nil || !f.Has(digest) {
		t.Fatal(err)
	}
	changed("looked at", false)
	if _, err := f.Path(digest); err != nil {
		t.Fatal(err)
	}
	changed("used by path", true)
	r, _, err := f.Open(digest)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	changed("opened", true)
	if err := f.Delete(digest); err != nil {
		t.Fatal(err)
	}
	changed("deleted", true)
}

func TestPutRefuses(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	good := digestOf([]byte("good"))
	for _, c := range []struct {
		name   string
		ctx    context.Context
		digest string
		r      io.Reader
		code   api.Code
	}{
		{"other bytes", t.Context(), good, strings.NewReader("bad"), api.CodeUnsupMedia},
		{"cut short", t.Context(), good, strings.NewReader("goo"), api.CodeUnsupMedia},
		{"no digest", t.Context(), "good", strings.NewReader("good"), api.CodeInvalid},
		{"a way out of the folder", t.Context(), "sha256:../../x", strings.NewReader("good"), api.CodeInvalid},
		{"one byte too large", t.Context(), digestOf([]byte("123456789")), strings.NewReader("123456789"), api.CodeTooLarge},
		{"reader fails", t.Context(), good, iotest.ErrReader(errors.New("line cut")), api.CodeInternal},
		{"cancelled", cancelled, good, strings.NewReader("good"), api.CodeInternal},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := open(t)
			f.max = 8
			if _, err := f.Put(c.ctx, c.digest, c.r); api.CodeOf(err) != c.code {
				t.Errorf("Put: %v, want code %s", err, c.code)
			}
			if f.Has(c.digest) || len(leftovers(t, f)) > 0 {
				t.Errorf("a failed Put left something behind: %v", leftovers(t, f))
			}
		})
	}
}

func TestPutAtTheLimit(t *testing.T) {
	f := open(t)
	f.max = 8
	put(t, f, "1234567")
	put(t, f, "12345678")
}

func TestFullDiskIsNoRoom(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	_, err = copyChecked(t.Context(), full, strings.NewReader("x"), digestOf([]byte("x")), 8)
	if api.CodeOf(err) != api.CodeNoRoom {
		t.Errorf("writing to a full disk: %v, want %s", err, api.CodeNoRoom)
	}
}

func TestMissingIsNotFound(t *testing.T) {
	f := open(t)
	digest := digestOf([]byte("never stored"))
	if _, _, err := f.Open(digest); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("Open: %v", err)
	}
	if _, err := f.Path(digest); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("Path: %v", err)
	}
	if err := f.Delete(digest); err != nil {
		t.Errorf("Delete: %v", err)
	}
}

// What rotted on the disk is never handed out by path, and is fetched again.
func TestDamagedFileIsRemoved(t *testing.T) {
	f := open(t)
	digest := put(t, f, "hello")
	path, _ := f.file(digest)
	if err := os.WriteFile(path, []byte("hellO"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := NewFiles(f.dir) // a new process trusts nothing
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Path(digest); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("Path of a damaged file: %v", err)
	}
	if again.Has(digest) {
		t.Error("the damaged file is still there")
	}
	put(t, again, "hello")
	if _, err := again.Path(digest); err != nil {
		t.Errorf("Path after it was stored again: %v", err)
	}
}

func TestLeftoversGoOnOpen(t *testing.T) {
	f := open(t)
	digest := put(t, f, "keep me")
	if err := os.WriteFile(filepath.Join(f.dir, tempPrefix+"123"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := NewFiles(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t, again); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if !again.Has(digest) {
		t.Error("a whole artifact was removed")
	}
}

func TestUnusableFolderIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewFiles(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not name %s", err, path)
	}
}

func TestEvictTakesTheLeastRecentlyUsed(t *testing.T) {
	f := open(t)
	oldest, kept, newer := put(t, f, "aaaa"), put(t, f, "bbbb"), put(t, f, "cccc")
	base := time.Now().Add(-time.Hour)
	for i, d := range []string{oldest, kept, newer} {
		path, _ := f.file(d)
		at := base.Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	r, _, err := f.Open(oldest) // a use makes it the newest
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	freed, err := f.Evict(map[string]bool{kept: true}, 8)
	if err != nil || freed != 4 {
		t.Fatalf("Evict = %d, %v", freed, err)
	}
	got := map[string]bool{oldest: f.Has(oldest), kept: f.Has(kept), newer: f.Has(newer)}
	if diff := cmp.Diff(map[string]bool{oldest: true, kept: true, newer: false}, got); diff != "" {
		t.Error(diff)
	}
}

// Evict never deletes what is kept, and stops as soon as enough is free.
func TestEvictProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		f, err := NewFiles(dir)
		if err != nil {
			rt.Fatal(err)
		}
		keep := map[string]bool{}
		var total, must int64
		for i, size := range rapid.SliceOfN(rapid.IntRange(0, 20), 0, 6).Draw(rt, "sizes") {
			content := append(bytes.Repeat([]byte("x"), size), byte(i))
			digest := digestOf(content)
			if _, err := f.Put(context.Background(), digest, bytes.NewReader(content)); err != nil {
				rt.Fatal(err)
			}
			total += int64(len(content))
			if rapid.Bool().Draw(rt, "keep") {
				keep[digest] = true
				must += int64(len(content))
			}
		}
		limit := rapid.Int64Range(0, 80).Draw(rt, "limit")
		freed, err := f.Evict(keep, limit)
		if err != nil {
			rt.Fatal(err)
		}
		for d := range keep {
			if !f.Has(d) {
				rt.Fatalf("kept %s is gone", d)
			}
		}
		if left := total - freed; left > max(limit, must) {
			rt.Fatalf("%d bytes left, limit %d, kept %d", left, limit, must)
		}
		if total <= limit && freed != 0 {
			rt.Fatalf("freed %d although all fitted", freed)
		}
	})
}
