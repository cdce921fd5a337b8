package s3

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/internal/run"
)

// What is slow is not cut off while something gets through. These tests are of hours, in a moment.

// pipe is a listener of one connection, in memory.
type pipe struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipe) Addr() net.Addr { return nil }
func (p pipe) Close() error   { close(p.done); return nil }

// inAPipe runs f with a client's end of a connection to a door with an empty bucket.
func inAPipe(t *testing.T, f func(t *testing.T, w *world, c net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		w := newDoor(t)
		w.url = "http://localhost"
		_, err := w.Apply(t.Context(), meta.Command{CreateBucket: &api.Bucket{Name: "assets"}})
		must(t, err)
		near, far := net.Pipe()
		p := pipe{make(chan net.Conn, 1), make(chan struct{})}
		p.conns <- far
		server, ended := &http.Server{Handler: w.door}, make(chan error)
		go func() { ended <- server.Serve(p) }()
		f(t, w, near)
		near.Close()
		server.Close()
		<-ended
	})
}

func TestAnUploadMayBeOnItsWayForLong(t *testing.T) {
	inAPipe(t, func(t *testing.T, w *world, c net.Conn) {
		w.takes = 3 * idleTimeout // after its last byte has come
		r, err := http.NewRequest("PUT", w.url+"/assets/key", bytes.NewReader(make([]byte, 1<<20)))
		must(t, err)
		sign(r, unsignedPayload, time.Now())
		go func() { must(t, r.Write(c)) }()
		answer, err := http.ReadResponse(bufio.NewReader(c), r)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("%v, %v", answer, err)
		}
	})
}

// download reads an object of 1 MiB, 8 KiB a second, and says how much of it came.
func download(t *testing.T, w *world, c net.Conn, each func(read int)) (n int, err error) {
	t.Helper()
	_, err = w.gateway.Put(t.Context(), gateway.PutObject{Bucket: "assets", Key: "key", Size: 1 << 20}, bytes.NewReader(make([]byte, 1<<20)))
	must(t, err)
	r, err := http.NewRequest("GET", w.url+"/assets/key", nil)
	must(t, err)
	sign(r, emptyPayload, time.Now())
	go func() { must(t, r.Write(c)) }()
	answer, err := http.ReadResponse(bufio.NewReader(c), r)
	must(t, err)
	for some := make([]byte, 8<<10); err == nil; each(n) {
		var got int
		got, err = io.ReadFull(answer.Body, some)
		n += got
		must(t, run.Sleep(t.Context(), time.Second))
	}
	return n, err
}

func TestASlowReaderIsNotCutOff(t *testing.T) {
	inAPipe(t, func(t *testing.T, w *world, c net.Conn) {
		if n, err := download(t, w, c, func(int) {}); n != 1<<20 || err != io.EOF {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// A key that is revoked ends a download; coordinators that do not answer end none.
func TestADownloadEndsWithItsKey(t *testing.T) {
	for name, test := range map[string]struct {
		change func(k *keyring)
		whole  bool
	}{
		"revoked":   {func(k *keyring) { delete(k.keys, accessKey) }, false},
		"no answer": {func(k *keyring) { k.down = api.Errorf(api.CodeUnavailable, "no coordinator answers") }, true},
	} {
		inAPipe(t, func(t *testing.T, w *world, c net.Conn) {
			n, err := download(t, w, c, func(read int) {
				if read == 80<<10 {
					w.keys.mu.Lock()
					test.change(w.keys)
					w.keys.mu.Unlock()
				}
			})
			if whole := n == 1<<20 && err == io.EOF; whole != test.whole || !whole && n > 80<<10+2*writeStep {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
		})
	}
}
