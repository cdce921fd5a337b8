package s3

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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
		server, ended := &http.Server{Handler: w.door, Protocols: new(http.Protocols)}, make(chan error)
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		go func() { ended <- server.Serve(p) }()
		f(t, w, near)
		near.Close()
		server.Close()
		<-ended
	})
}

func TestAnUploadMayBeOnItsWayForLong(t *testing.T) {
	for proto, choose := range map[string]func(*http.Protocols, bool){
		"HTTP/1.1": (*http.Protocols).SetHTTP1, "HTTP/2.0": (*http.Protocols).SetUnencryptedHTTP2,
	} {
		t.Run(proto, func(t *testing.T) {
			inAPipe(t, func(t *testing.T, w *world, c net.Conn) {
				w.takes = 3 * idleTimeout // after its last byte has come
				client := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
				choose(client.Protocols, true)
				defer client.CloseIdleConnections()
				r, err := http.NewRequest("PUT", w.url+"/assets/key", bytes.NewReader(make([]byte, 1<<20)))
				must(t, err)
				sign(r, unsignedPayload, time.Now())
				answer, err := client.RoundTrip(r)
				if err != nil || answer.StatusCode != http.StatusOK || answer.Proto != proto {
					t.Errorf("%v, %v", answer, err)
				}
			})
		})
	}
}

const slowBytes = 4 << 20

// download reads an object of slowBytes, 8 KiB a second, and says how much of it came.
func download(t *testing.T, w *world, c net.Conn, each func(read int)) (n int, err error) {
	t.Helper()
	_, err = w.gateway.Put(t.Context(), gateway.PutObject{Bucket: "assets", Key: "key", Size: slowBytes}, bytes.NewReader(make([]byte, slowBytes)))
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
		if n, err := download(t, w, c, func(int) {}); n != slowBytes || err != io.EOF {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// What a key copies while it is revoked is not kept.
func TestACopyOfAPartEndsWithItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDoor(t)
		ref := meta.UploadRef{Bucket: "assets", Key: "copy", ID: "up"}
		_, err := w.Apply(t.Context(), meta.Command{CreateBucket: &api.Bucket{Name: "assets"}}, meta.Command{CreateUpload: &meta.CreateUpload{UploadRef: ref}})
		must(t, err)
		_, err = w.gateway.Put(t.Context(), gateway.PutObject{Bucket: "assets", Key: "key", Size: 8 << 20}, bytes.NewReader(make([]byte, 8<<20)))
		must(t, err)
		w.takes = 2 * recentFor
		r := httptest.NewRequest(http.MethodPut, "http://s3/assets/copy?uploadId=up&partNumber=1", nil)
		r.Header.Set(copySource, "assets/key")
		sign(r, emptyPayload, time.Now())
		time.AfterFunc(time.Second, func() { w.keys.revoke(accessKey) })
		answer := httptest.NewRecorder()
		w.door.ServeHTTP(answer, r)
		if answer.Code != http.StatusForbidden {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
	})
}

// A form has a while to come to its file, however it trickles: nobody has signed it so far.
func TestAFormThatTricklesIsGivenUp(t *testing.T) {
	inAPipe(t, func(t *testing.T, _ *world, c net.Conn) {
		began := time.Now()
		go func() {
			_, err := io.WriteString(c, "POST /assets HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 10000\r\n\r\n--b\r\n")
			for err == nil && run.Sleep(t.Context(), idleTimeout/2) == nil {
				_, err = io.WriteString(c, "x")
			}
		}()
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || answer.StatusCode != http.StatusBadRequest || time.Since(began) > idleTimeout {
			t.Errorf("%v, %v after %v", answer, err, time.Since(began))
		}
		c.Close()
	})
}

// A key that is revoked ends a download; coordinators that do not answer end none.
func TestADownloadEndsWithItsKey(t *testing.T) {
	for name, test := range map[string]struct {
		change func(k *keyring)
		whole  bool
	}{
		"revoked":   {func(k *keyring) { k.revoke(accessKey) }, false},
		"no answer": {func(k *keyring) { k.fail(api.Errorf(api.CodeUnavailable, "no coordinator answers")) }, true},
	} {
		inAPipe(t, func(t *testing.T, w *world, c net.Conn) {
			n, err := download(t, w, c, func(read int) {
				if read == 80<<10 {
					test.change(w.keys)
				}
			})
			if whole := n == slowBytes && err == io.EOF; whole != test.whole || !whole && n > 80<<10+2*writeStep {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
		})
	}
}
