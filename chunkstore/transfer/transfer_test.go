package transfer

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
)

// Every call does on another node what it does on the own one.
func TestCalls(t *testing.T) {
	w := newWorld(t, 2)
	own := w.client("a")
	own.Local = w.nodes["a"].chunks
	for name, c := range map[string]*Client{"another node": w.client(""), "the own node": own} {
		t.Run(name, func(t *testing.T) { checkCalls(t, w.nodes["a"], c) })
	}
}

func checkCalls(t *testing.T, n *node, c *Client) {
	chunks, digests := some(1, 5, 100_000)
	ctx := t.Context()
	if err := c.Put(ctx, "a", chunkstore.PutOptions{Owner: "o", Codec: chunkstore.Zstd}, chunks[:3]...); err != nil {
		t.Fatal(err)
	}
	for i, ch := range chunks[:3] {
		got, err := c.Get(ctx, "a", ch.Digest, []byte("before"))
		if err != nil || !bytes.Equal(got, append([]byte("before"), ch.Data...)) {
			t.Errorf("chunk %d: %d bytes: %v", i, len(got), err)
		}
	}
	_, err := c.Get(ctx, "a", digests[3], nil)
	mustBe(t, err, api.CodeNotFound, nil)
	missing, err := c.Missing(ctx, "a", digests...)
	if err != nil || !slices.Equal(missing, digests[3:]) {
		t.Errorf("missing are %v: %v", missing, err)
	}
	missing, err = c.Ref(ctx, "a", "p", digests...)
	if err != nil || !slices.Equal(missing, digests[3:]) {
		t.Errorf("not pinned are %v: %v", missing, err)
	}
	list, err := c.List(ctx, "a", digests[0], 1)
	want := chunkstore.ChunkInfo{Digest: digests[1], Bytes: 100_000, StoredBytes: 100_056, Codec: chunkstore.Raw}
	if err != nil || len(list) != 1 || list[0] != want {
		t.Errorf("listed are %+v: %v", list, err)
	}
	if err := c.Unref(ctx, "a", "o"); err != nil {
		t.Fatal(err)
	}
	if err := c.Unref(ctx, "a", "p", digests[0], digests[3]); err != nil {
		t.Fatal(err)
	}
	if kept, err := c.Drop(ctx, "a", digests...); err != nil || !slices.Equal(kept, digests[1:3]) {
		t.Errorf("kept are %v: %v", kept, err)
	}
	if n.has(t, digests[0]) || !n.has(t, digests[1]) || !n.has(t, digests[2]) {
		t.Error("dropped is not what nobody pins")
	}
	if err := c.Unref(ctx, "a", "p"); err != nil {
		t.Fatal(err)
	}
	if kept, err := c.Drop(ctx, "a", digests...); err != nil || len(kept) > 0 {
		t.Errorf("kept are %v: %v", kept, err)
	}
}

// What is more than a request carries goes in several, and is there whole.
func TestLargeCallsAreSeveralRequests(t *testing.T) {
	w := newWorld(t, 1)
	c := w.client("")
	chunks, all := some(1, 5, chunkstore.MaxChunkBytes)
	if err := c.Put(t.Context(), "a", chunkstore.PutOptions{Owner: "o"}, chunks...); err != nil {
		t.Fatal(err)
	}
	for i := range maxDigests {
		all = append(all, chunkstore.DigestOf([]byte{byte(i), byte(i >> 8)}))
	}
	missing, err := c.Ref(t.Context(), "a", "p", all...)
	if err != nil || len(missing) != maxDigests || missing[0] != all[len(all)-maxDigests] {
		t.Errorf("%d are missing: %v", len(missing), err)
	}
	if err := c.Unref(t.Context(), "a", "p", all...); err != nil {
		t.Error(err)
	}
}

// Bytes that are not the digest's are refused by the node, and nothing of their batch is kept.
func TestANodeBelievesNoDigest(t *testing.T) {
	w := newWorld(t, 1)
	good := chunkOf([]byte("good"))
	err := w.client("").Put(t.Context(), "a", chunkstore.PutOptions{}, good, chunkstore.Chunk{Digest: chunkstore.DigestOf([]byte("x")), Data: []byte("bad")})
	mustBe(t, err, api.CodeUnsupMedia, nil)
	if w.nodes["a"].has(t, good.Digest) {
		t.Error("a part of the batch was kept")
	}
}

// Errors keep what their callers look for.
func TestErrorsKeepTheirCauses(t *testing.T) {
	w := newWorld(t, 0)
	w.fake("full", func(rw http.ResponseWriter, r *http.Request) {
		e := api.Errorf(api.CodeNoRoom, "the chunk store is full").WithHint("delete objects")
		writeError(rw, e)
	})
	w.fake("damaged", func(rw http.ResponseWriter, r *http.Request) {
		e := api.Errorf(api.CodeInternal, "it is damaged")
		e.Err = chunkstore.ErrCorrupt
		writeError(rw, e)
	})
	w.fake("odd", func(rw http.ResponseWriter, r *http.Request) { http.Error(rw, "what?", http.StatusTeapot) })
	c, chunk := w.client(""), chunkOf([]byte("x"))
	mustBe(t, c.Put(t.Context(), "full", chunkstore.PutOptions{}, chunk), api.CodeNoRoom, chunkstore.ErrFull)
	_, err := c.Get(t.Context(), "damaged", chunk.Digest, nil)
	mustBe(t, err, api.CodeInternal, chunkstore.ErrCorrupt)
	_, err = c.Get(t.Context(), "odd", chunk.Digest, nil)
	mustBe(t, err, api.CodeUnavailable, nil)
	_, err = c.Get(t.Context(), "nobody", chunk.Digest, nil)
	mustBe(t, err, api.CodeUnavailable, nil)
	_, err = c.Get(t.Context(), "odd", "x", nil)
	mustBe(t, err, api.CodeInvalid, nil)
}

// Only who maintains the store may list, copy, drop and unpin; nobody may if nobody was named.
func TestMaintenanceIsNotForAll(t *testing.T) {
	w := newWorld(t, 0)
	n := w.serve("a", func(s *Server) { s.Maintains = nil })
	chunk := chunkOf([]byte("x"))
	n.mustHave(t, "o", chunk)
	c := w.client("")
	_, err := c.List(t.Context(), "a", "", 1)
	mustBe(t, err, api.CodeForbidden, nil)
	_, err = c.Copy(t.Context(), "a", "b", chunk.Digest)
	mustBe(t, err, api.CodeForbidden, nil)
	_, err = c.Drop(t.Context(), "a", chunk.Digest)
	mustBe(t, err, api.CodeForbidden, nil)
	mustBe(t, c.Unref(t.Context(), "a", "o"), api.CodeForbidden, nil)
	if _, err := c.Get(t.Context(), "a", chunk.Digest, nil); err != nil {
		t.Error(err)
	}
}

// Requests that make no sense are refused.
func TestRequestsAreChecked(t *testing.T) {
	w := newWorld(t, 1)
	c := w.client("")
	get := func(path string) error {
		return c.do(t.Context(), call{node: "a", method: http.MethodGet, path: path, header: http.Header{"Range": {"bytes=5-9"}}}, nothing)
	}
	mustBe(t, get(pathGet+"00"), api.CodeInvalid, nil)
	mustBe(t, get(pathList), api.CodeInvalid, nil)
	w.nodes["a"].mustHave(t, "o", chunkOf([]byte("x")))
	mustBe(t, get(pathGet+chunkstore.DigestOf([]byte("x"))[7:]), api.CodeInvalid, nil) // no range but to the end
	send := func(path string, body []byte) error {
		path, query, _ := strings.Cut(path, "?")
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		return c.do(t.Context(), post("a", path, values, body), nothing)
	}
	mustBe(t, send(pathHas, make([]byte, sumBytes+1)), api.CodeInvalid, nil)
	mustBe(t, send(pathHas, make([]byte, (maxDigests+1)*sumBytes)), api.CodeInvalid, nil)
	if err := send(pathHas, make([]byte, maxDigests*sumBytes)); err != nil {
		t.Error(err)
	}
	mustBe(t, send(pathUnref+"?owner=o", nil), api.CodeInvalid, nil)
	mustBe(t, send(pathUnref+"?owner=o&all=true", make([]byte, sumBytes)), api.CodeInvalid, nil)
	mustBe(t, send(pathCopy+"?from=a", make([]byte, sumBytes)), api.CodeInvalid, nil)
	mustBe(t, send(pathPut, []byte("x")), api.CodeInvalid, nil)
	mustBe(t, send(pathPut+"?codec=0", make([]byte, frameBytes)), api.CodeTooLarge, nil)
	mustBe(t, send(pathPut+"?codec=0", append(make([]byte, frameBytes-1), 2, 'x')), api.CodeInvalid, nil)
	mustBe(t, send(pathPut+"?codec=0", make([]byte, maxBatch+1)), api.CodeTooLarge, nil)
}

func FuzzFrames(f *testing.F) {
	f.Add(append(append(make([]byte, frameBytes-1), 1), 'x'))
	f.Fuzz(func(t *testing.T, b []byte) {
		chunks, free, err := readChunks(bytes.NewReader(b))
		defer free()
		if err != nil {
			return
		}
		sent, n, err := frames(chunks)
		if err != nil || n != int64(len(b)) {
			t.Fatalf("%d bytes became %d: %v", len(b), n, err)
		}
		if got := slices.Concat(sent...); !bytes.Equal(got, b) {
			t.Error("frames are not sent as they were read")
		}
	})
}

func FuzzRows(f *testing.F) {
	f.Add(appendRow(nil, chunkstore.ChunkInfo{Digest: chunkstore.DigestOf([]byte("x")), Bytes: 5, StoredBytes: 60, Codec: chunkstore.Raw}))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := decodeRows(b)
		var again []byte
		for _, r := range rows {
			again = appendRow(again, r)
		}
		if err == nil && !bytes.Equal(again, b) {
			t.Error("rows are not written as they were read")
		}
		if d, err := decodeDigests(b); err == nil {
			if again, err := encodeDigests(d); err != nil || !bytes.Equal(again, b) {
				t.Errorf("digests are not written as they were read: %v", err)
			}
		}
		done, _, err := readOutcomes(bytes.NewReader(b), []string{"1", "2"})
		if len(done) > 2 || err == nil && len(b) < 2*outcomeBytes {
			t.Errorf("%d bytes tell of %v", len(b), done)
		}
	})
}
