package transfer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
)

// ledNode is a node that keeps chunks, and a client that reaches it.
func ledNode(t *testing.T, maintains func(*http.Request) bool) (*chunkstore.Chunks, *Client) {
	t.Helper()
	chunks, err := chunkstore.Open(vfs.NewMem(), "chunks", chunkstore.Options{SegmentBytes: 1 << 20, ReserveBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Chunks: chunks, Client: &Client{Self: "n1", Local: chunks}, Maintains: maintains}
	http1 := httptest.NewServer(s)
	c := &Client{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", http1.Listener.Addr().String())
	}}
	t.Cleanup(func() {
		c.Close()
		http1.Close()
		if err := chunks.Close(); err != nil {
			t.Error(err)
		}
	})
	return chunks, c
}

// A node that has heard of a leader does nothing any more for one that led before, in whatever epoch.
func TestOnlyTheNewestLeaderIsObeyed(t *testing.T) {
	chunks, c := ledNode(t, func(*http.Request) bool { return true })
	data := []byte("hello")
	digest := chunkstore.DigestOf(data)
	put := func() {
		t.Helper()
		if err := chunks.Put(t.Context(), chunkstore.PutOptions{}, chunkstore.Chunk{Digest: digest, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	put()
	old, next := c.Leading(Lead{5, 9}), c.Leading(Lead{6, 1})
	if _, err := old.Missing(t.Context(), "n1", digest); err != nil {
		t.Errorf("the only leader: %v", err)
	}
	if _, err := next.Missing(t.Context(), "n1", digest); err != nil { // it relies on the copy from now on
		t.Errorf("the next leader: %v", err)
	}
	if _, err := old.Drop(t.Context(), "n1", digest); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a drop for the old leader: %v", err)
	}
	if has, err := chunks.Has(digest); !has || err != nil {
		t.Errorf("the chunk is there: %v, %v", has, err)
	}
	if _, err := c.Missing(t.Context(), "n1", digest); err != nil {
		t.Errorf("one who asks for no leader: %v", err)
	}
	if _, err := next.Drop(t.Context(), "n1", digest); err != nil {
		t.Errorf("a drop for the next leader: %v", err)
	}
	if has, _ := chunks.Has(digest); has {
		t.Error("it was not dropped")
	}
}

// Who may not maintain the store cannot make a node deaf by speaking for a leader that there is not.
func TestOthersDoNotSpeakForLeaders(t *testing.T) {
	trusted := false
	_, c := ledNode(t, func(*http.Request) bool { return trusted })
	if _, err := c.Leading(Lead{1 << 60, 1}).Missing(t.Context(), "n1"); err != nil {
		t.Errorf("%v", err)
	}
	digest := chunkstore.DigestOf([]byte("x"))
	if _, err := c.Leading(Lead{1 << 60, 1}).Missing(t.Context(), "n1", digest); err != nil {
		t.Errorf("%v", err)
	}
	trusted = true
	if _, err := c.Leading(Lead{1, 1}).Drop(t.Context(), "n1", digest); err != nil {
		t.Errorf("the true leader: %v", err)
	}
}

func TestLeads(t *testing.T) {
	for _, c := range []struct {
		a, b  Lead
		older bool
	}{{Lead{1, 1}, Lead{1, 1}, false}, {Lead{1, 1}, Lead{1, 2}, true}, {Lead{1, 2}, Lead{1, 1}, false}, {Lead{1, 9}, Lead{2, 1}, true}, {Lead{2, 1}, Lead{1, 9}, false}} {
		if c.a.older(c.b) != c.older {
			t.Errorf("%v older than %v: %v", c.a, c.b, !c.older)
		}
	}
	for _, text := range []string{"", "pull", "1", "1.", "1.2.3", "1.2 ", "-1.2", "01.2", "1.99999999999999999999999"} {
		if l, ok := parseLead(text); ok {
			t.Errorf("%q is %v", text, l)
		}
	}
	if l, ok := parseLead(Lead{7, 8}.String()); !ok || l != (Lead{7, 8}) {
		t.Errorf("%v, %v", l, ok)
	}
}

// A drop leaves what somebody pins, and says so.
func TestDropKeepsWhatIsPinned(t *testing.T) {
	chunks, c := ledNode(t, func(*http.Request) bool { return true })
	pinned, free := chunkstore.Chunk{Digest: chunkstore.DigestOf([]byte("a")), Data: []byte("a")}, chunkstore.Chunk{Digest: chunkstore.DigestOf([]byte("b")), Data: []byte("b")}
	if err := errors.Join(chunks.Put(t.Context(), chunkstore.PutOptions{Owner: "session/1"}, pinned), chunks.Put(t.Context(), chunkstore.PutOptions{}, free)); err != nil {
		t.Fatal(err)
	}
	kept, err := c.Drop(t.Context(), "n1", pinned.Digest, free.Digest, chunkstore.DigestOf([]byte("c")))
	if err != nil || len(kept) != 1 || kept[0] != pinned.Digest {
		t.Errorf("kept %v, %v", kept, err)
	}
	if missing, err := c.Missing(t.Context(), "n1", pinned.Digest, free.Digest); err != nil || len(missing) != 1 || missing[0] != free.Digest {
		t.Errorf("missing are %v, %v", missing, err)
	}
}
