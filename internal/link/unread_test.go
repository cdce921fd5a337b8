package link

import (
	"bufio"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// oneConn is a listener that has one caller.
type oneConn struct {
	conns chan net.Conn
	addr  net.Addr
}

func (l oneConn) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l oneConn) Close() error   { return nil }
func (l oneConn) Addr() net.Addr { return l.addr }

// A request that is refused before its body is read is answered although the body never comes, and its
// connection ends.
func TestARefusedRequestDoesNotWaitForItsBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far, near := net.Pipe()
		ln := oneConn{conns: make(chan net.Conn, 1), addr: far.LocalAddr()}
		ln.conns <- far
		close(ln.conns)
		refuse := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }
		srv := &http.Server{Handler: http.HandlerFunc(refuse), IdleTimeout: time.Minute}
		Limit(srv, 10)
		go srv.Serve(ln) // it ends as soon as the one connection has been accepted
		if _, err := near.Write([]byte("POST /v1/workloads HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nab")); err != nil {
			t.Fatal(err)
		}
		if err := near.SetReadDeadline(time.Now().Add(2 * unreadTime)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(near), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusUnauthorized || !resp.Close {
			t.Errorf("status %d, connection kept: %v", resp.StatusCode, !resp.Close)
		}
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
}
