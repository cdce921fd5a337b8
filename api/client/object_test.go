package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/split"
	"github.com/cloudless/cloudless/test/objectapi"
)

func store(t *testing.T) (*objectapi.Server, *Client) {
	s := objectapi.New("photos")
	return s, open(t, Config{Addresses: []string{serve(t, s.ServeHTTP)}})
}

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func readAll(t *testing.T, c *Client, key string, from int64, match string) ([]byte, *api.Object, error) {
	t.Helper()
	r, err := c.GetObject(t.Context(), "photos", key, from, match)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return data, &r.Object, err
}

// What is small goes as one body, what is large in chunks; either is read back as it was.
func TestUploadAndReadBack(t *testing.T) {
	for _, n := range []int{0, 1, wholeBytes - 1, wholeBytes, wholeBytes + 1, groupBytes + split.Normal/2} {
		for _, size := range []int64{int64(n), -1} {
			s, c := store(t)
			data, told := noise(1, n), int64(0)
			head := api.ObjectHead{ContentType: "image/png", Metadata: map[string]string{"owner": "ann"}}
			o, err := c.Upload(t.Context(), api.ObjectPut{Bucket: "photos", Key: "a", ObjectHead: head, Size: size}, bytes.NewReader(data), func(n int64, _ bool) { told += n })
			if err != nil || o.Size != int64(n) || told != int64(n) || (s.Whole == 1) != (n < wholeBytes) {
				t.Fatalf("%d bytes: %v; size %d, told of %d, %d whole, %d chunks", n, err, o.Size, told, s.Whole, s.Sent)
			}
			got, back, err := readAll(t, c, "a", 0, "")
			if err != nil || !bytes.Equal(got, data) || back.ETag != o.ETag || back.SHA256 != o.SHA256 || back.Size != o.Size {
				t.Errorf("%d bytes: %v; read %d bytes of %+v", n, err, len(got), back)
			}
			if d := cmp.Diff(head, s.Objects["photos/a"].ObjectHead); d != "" {
				t.Errorf("%d bytes: %s", n, d)
			}
		}
	}
}

// An upload whose reader fails makes no object. One that is repeated sends only what the cluster lacks.
func TestARepeatedUploadSendsWhatIsMissing(t *testing.T) {
	s, c := store(t)
	data := noise(2, 24*split.Normal)
	put := api.ObjectPut{Bucket: "photos", Key: "a", Size: int64(len(data))}
	broken := errors.New("the machine goes to sleep")
	_, err := c.Upload(t.Context(), put, io.MultiReader(bytes.NewReader(data[:18*split.Normal]), failing{broken}), nil)
	if !errors.Is(err, broken) || len(s.Objects) != 0 {
		t.Fatalf("%v; objects %v", err, s.Objects)
	}
	s, c = store(t)
	for i, size := range []int{18, 24, 24} { // chunks that have come each time
		sent := int64(0)
		put.Size = int64(size * split.Normal)
		_, err := c.Upload(t.Context(), put, bytes.NewReader(data[:put.Size]), func(n int64, was bool) {
			if was {
				sent += n
			}
		})
		if want := []int64{18, 6, 0}[i]; err != nil || s.Sent != size || sent != want*split.Normal {
			t.Errorf("upload %d: %v; %d bytes told as sent, %d chunks came in all", i, err, sent, s.Sent)
		}
	}
	for _, chunking := range []string{api.ChunkingFixed, api.ChunkingContent} {
		b := s.Buckets["photos"]
		b.Chunking = chunking
		s.Buckets["photos"] = b
		if _, err := c.Upload(t.Context(), put, bytes.NewReader(append([]byte("new"), data...)[:len(data)]), nil); err != nil {
			t.Fatal(err)
		}
	}
	s.Sent = 0
	if _, err := c.Upload(t.Context(), put, bytes.NewReader(append([]byte("other"), data...)[:len(data)]), nil); err != nil || s.Sent > 5 {
		t.Errorf("cut by content, %d chunks were sent for an insertion: %v", s.Sent, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// The same chunk many times over is sent once.
func TestZerosAreSentOnce(t *testing.T) {
	s, c := store(t)
	if _, err := c.Upload(t.Context(), api.ObjectPut{Bucket: "photos", Key: "a", Size: -1}, bytes.NewReader(make([]byte, 12*split.Normal)), nil); err != nil || s.Sent != 1 {
		t.Errorf("%d chunks sent: %v", s.Sent, err)
	}
}

func TestAnUploadThatChangesIsRefused(t *testing.T) {
	for _, n := range []int{10, 6 * split.Normal} {
		for _, more := range []int64{-1, 1} {
			s, c := store(t)
			_, err := c.Upload(t.Context(), api.ObjectPut{Bucket: "photos", Key: "a", Size: int64(n) + more}, bytes.NewReader(noise(3, n)), nil)
			if api.CodeOf(err) != api.CodeConflict || len(s.Objects) != 0 {
				t.Errorf("%d bytes, said to be %d more: %v", n, more, err)
			}
		}
	}
}

func TestAnUploadStopsAtTheFirstFailure(t *testing.T) {
	s, c := store(t)
	s.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/chunks/") {
			objectapi.Refuse(w, api.Errorf(api.CodeNoRoom, "every node is full"))
			return true
		}
		return false
	}
	if _, err := c.Upload(t.Context(), api.ObjectPut{Bucket: "photos", Key: "a", Size: -1}, endless{}, nil); api.CodeOf(err) != api.CodeNoRoom {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, c = store(t)
	s.Hook = func(_ http.ResponseWriter, r *http.Request) bool { // the caller gives up in the middle
		if strings.Contains(r.URL.Path, "/chunks/") {
			cancel()
		}
		return ctx.Err() != nil
	}
	if _, err := c.Upload(ctx, api.ObjectPut{Bucket: "photos", Key: "a", Size: -1}, endless{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after an interruption: %v", err)
	}
	_, c = store(t)
	if _, err := c.Upload(t.Context(), api.ObjectPut{Bucket: "none", Key: "a", Size: -1}, endless{}, nil); !IsNotFound(err) {
		t.Errorf("into a bucket that is not there: %v", err)
	}
}

// endless gives bytes that never repeat.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	return copy(p, noise(byte(rand.Uint32()), len(p))), nil
}

// A stream that breaks goes on where it was, at another address if need be, and only in the same version.
func TestABrokenReadGoesOn(t *testing.T) {
	s := objectapi.New("photos")
	data := noise(4, 1<<20)
	s.Put(api.ObjectPut{Bucket: "photos", Key: "a"}, data)
	var breaks atomic.Int32
	breaks.Store(3)
	breaking := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.RawQuery, "metadata") || breaks.Add(-1) < 0 {
			s.ServeHTTP(w, r)
			return
		}
		s.ServeHTTP(&cutAfter{ResponseWriter: w, left: 100_000}, r)
		panic(http.ErrAbortHandler)
	})
	c := open(t, Config{Addresses: []string{breaking, breaking}})
	if got, _, err := readAll(t, c, "a", 0, ""); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%v; %d of %d bytes", err, len(got), len(data))
	}
	breaks.Store(1)
	r, err := c.GetObject(t.Context(), "photos", "a", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	s.Put(api.ObjectPut{Bucket: "photos", Key: "a"}, noise(5, 1<<20))
	if _, err := io.ReadAll(r); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("the rest of another version: %v", err)
	}
}

// cutAfter lets so many bytes through.
type cutAfter struct {
	http.ResponseWriter
	left int
}

func (c *cutAfter) Write(p []byte) (int, error) {
	n := min(c.left, len(p))
	c.left -= n
	if n == 0 {
		return 0, io.ErrShortWrite
	}
	n, err := c.ResponseWriter.Write(p[:n])
	c.ResponseWriter.(http.Flusher).Flush()
	return n, err
}

func TestReadsFromTheMiddle(t *testing.T) {
	s, c := store(t)
	o := s.Put(api.ObjectPut{Bucket: "photos", Key: "a"}, []byte("hello, world"))
	if got, back, err := readAll(t, c, "a", 7, o.ETag); err != nil || string(got) != "world" || back.Size != 12 {
		t.Errorf("%q of %+v: %v", got, back, err)
	}
	if _, _, err := readAll(t, c, "a", 7, "other"); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("of another version: %v", err)
	}
	s.Hook = func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }
	if _, _, err := readAll(t, c, "a", 7, o.ETag); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("a proxy that drops Range: %v", err)
	}
}

// Bytes that were put packed are given back packed.
func TestContentEncodingIsLeftAlone(t *testing.T) {
	s, c := store(t)
	s.Put(api.ObjectPut{Bucket: "photos", Key: "a"}, []byte("not gzip at all"))
	s.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			t.Error("gzip was asked for")
		}
		w.Header().Set("Content-Encoding", "gzip")
		return false
	}
	if got, _, err := readAll(t, c, "a", 0, ""); err != nil || string(got) != "not gzip at all" {
		t.Errorf("%q: %v", got, err)
	}
}

func TestKeysInPaths(t *testing.T) {
	for _, key := range []string{"a", "a/b", "/", "//", "..", "../a", "a/./b", "%2F", "a b", "a?b#c", "ä", "\x01", "a+b", strings.Repeat("%", api.MaxObjectKeyBytes)} {
		s, c := store(t)
		if _, err := c.Upload(t.Context(), api.ObjectPut{Bucket: "photos", Key: key}, strings.NewReader(""), nil); err != nil {
			t.Errorf("%q: %v", key, err)
		}
		if _, kept := s.Objects["photos/"+key]; !kept {
			t.Errorf("%q became another key", key)
		}
		if o, err := c.Object(t.Context(), "photos", key); err != nil || o.Key != key {
			t.Errorf("%q: %v", key, err)
		}
		if err := c.DeleteObject(t.Context(), "photos", key, ""); err != nil || len(s.Objects) != 0 {
			t.Errorf("%q: not deleted: %v", key, err)
		}
	}
	if p := objectPath("b", "a/../."); strings.Contains(p, "..") || strings.HasSuffix(p, "/.") {
		t.Errorf("a path that is folded on the way: %s", p)
	}
}

func TestBucketsAndTheirObjects(t *testing.T) {
	s, c := store(t)
	b, err := c.CreateBucket(t.Context(), api.Bucket{Name: "new-one", Replicas: 2})
	if err != nil || b.Replicas != 2 {
		t.Fatal(b, err)
	}
	if b, err = c.SetBucket(t.Context(), "new-one", map[string]any{"quota": 5}, 0); err != nil || b.Quota != 5 || b.Replicas != 2 {
		t.Error(b, err)
	}
	for i := range 5 {
		s.Put(api.ObjectPut{Bucket: "new-one", Key: fmt.Sprintf("d/%d", i)}, nil)
	}
	var keys []string
	for q := (meta.List{Bucket: "new-one", Prefix: "d/", Limit: 2}); ; {
		page, err := c.Objects(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Items {
			keys = append(keys, o.Key)
		}
		if q.After = page.Cursor; q.After == "" {
			break
		}
	}
	if strings.Join(keys, " ") != "d/0 d/1 d/2 d/3 d/4" {
		t.Error(keys)
	}
	if page, err := c.Objects(t.Context(), meta.List{Bucket: "new-one", Delimiter: "/"}); err != nil || len(page.Items) != 0 || strings.Join(page.Prefixes, " ") != "d/" {
		t.Errorf("%+v: %v", page, err)
	}
	if err := c.DeleteBucket(t.Context(), "new-one", 0); api.ReasonOf(err) != api.ReasonBucketNotEmpty {
		t.Error(err)
	}
	if o, err := c.CopyObject(t.Context(), "photos", "copy", api.ObjectCopy{FromBucket: "new-one", FromKey: "d/1"}, true); err != nil || o.Key != "copy" {
		t.Error(o, err)
	}
	if l, err := c.Buckets(t.Context(), api.ListQuery{}); err != nil || len(l.Items) != 2 || l.Items[0].Usage.Objects != 5 {
		t.Errorf("%+v: %v", l, err)
	}
}

func TestWorkOfTheStoreAndItsBackup(t *testing.T) {
	s, c := store(t)
	if err := errors.Join(c.ScrubStorage(t.Context(), "one"), c.RepairStorage(t.Context()), c.CollectStorage(t.Context(), true)); err != nil {
		t.Error(err)
	}
	if got := strings.Join(s.Asked, "; "); got != `scrub {"node":"one"}; repair ; collect {"anyway":true}` {
		t.Error(got)
	}
	s.Backup = []byte("everything")
	r, err := c.BackupStorage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, err := io.ReadAll(r); err != nil || string(data) != "everything" {
		t.Errorf("%q: %v", data, err)
	}
	if err := c.RestoreStorage(t.Context(), -1, reopen([]byte("another"))); err != nil || string(s.Backup) != "another" {
		t.Errorf("%q: %v", s.Backup, err)
	}
}

// A module that was built again differs in a few places: only the chunks there are sent.
func TestAChangedArtifactSendsWhatHasChanged(t *testing.T) {
	s, c := store(t)
	b := api.Bucket{Name: api.ArtifactBucket, Chunking: api.ChunkingContent}
	b.Default()
	s.Buckets[b.Name] = b
	var sizes []int64
	s.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v1/artifacts/") {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		m, err := split.Decode(body)
		if err != nil || r.URL.Query().Get("session") == "" || r.URL.Query().Get("kind") != api.ArtifactWasm {
			t.Errorf("%s: %v", r.URL, err)
		} else {
			sizes = append(sizes, m.Size())
		}
		json.NewEncoder(w).Encode(api.Artifact{})
		return true
	}
	module := noise(1, 3<<20)
	put := func() (sent int) {
		before := s.Sent
		_, err := c.PutArtifact(t.Context(), "sha256:"+strings.Repeat("0", 64), api.ArtifactWasm, int64(len(module)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(module)), nil })
		if err != nil {
			t.Fatal(err)
		}
		return s.Sent - before
	}
	all := put()
	if all < 6 {
		t.Fatalf("%d chunks of a whole module: they are too coarse", all)
	}
	module = slices.Concat(module[:1<<20], []byte("a few bytes more"), module[1<<20:])
	if again := put(); again < 1 || again > 2 {
		t.Errorf("%d of %d chunks sent for one change", again, all)
	}
	if again := put(); again != 0 {
		t.Errorf("%d chunks sent for none", again)
	}
	if want := []int64{3 << 20, 3<<20 + 16, 3<<20 + 16}; !slices.Equal(sizes, want) {
		t.Errorf("artifacts of %v bytes, want %v", sizes, want)
	}
}

// What is silent is the stream, not whoever reads it.
func TestOnlyASilentStreamIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		r, w := io.Pipe()
		b := live(r, cancel)
		time.Sleep(2 * silentBody) // of the bubble's own time, before the first read and after it
		go func() { _, _ = w.Write([]byte("a")) }()
		if _, err := b.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * silentBody)
		if ctx.Err() != nil {
			t.Errorf("a slow reader's stream was given up: %v", context.Cause(ctx))
		}
		context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, errSilent) {
			t.Errorf("a silent stream gives %v", err)
		}
		_ = b.Close()
	})
}
