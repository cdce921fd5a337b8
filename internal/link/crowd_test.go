package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"
)

// crowded is a server with a limit; "/wait" is served until release is closed.
type crowded struct {
	*testing.T
	*Crowd
	srv      *httptest.Server
	addr     string
	serving  chan struct{}
	release  chan struct{}
	finished sync.WaitGroup
}

func newCrowded(t *testing.T, most int) *crowded {
	c := &crowded{T: t, serving: make(chan struct{}, 16), release: make(chan struct{})}
	c.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			c.serving <- struct{}{}
			<-c.release
		}
		if r.URL.Path == "/take" {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			c.serving <- struct{}{}
			<-c.release
			return
		}
		io.WriteString(w, "served")
	}))
	c.srv.EnableHTTP2 = true
	c.Crowd = Limit(c.srv.Config, most)
	t.Cleanup(func() {
		c.finished.Wait()
		c.srv.Close()
	})
	return c
}

func (c *crowded) start() { c.srv.Start(); c.addr = c.srv.Listener.Addr().String() }

func (c *crowded) dial() net.Conn {
	c.Helper()
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}

// closed waits for the server to close a connection.
func (c *crowded) closed(what string, conn net.Conn) {
	c.Helper()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		c.Errorf("%s is served: %d %v", what, n, err)
	} else if e, ok := err.(net.Error); ok && e.Timeout() {
		c.Errorf("%s is still open", what)
	}
}

func (c *crowded) ask(conn net.Conn, path string) string {
	c.Helper()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	got := make([]byte, len("HTTP/1.1 200 OK"))
	if _, err := io.ReadFull(conn, got); err != nil {
		c.Errorf("%s: %v", path, err)
	}
	return string(got)
}

func (c *crowded) present() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.members)
}

// Up to the limit all stay. Past it the longest quiet gives way, silent, in the middle of a head or
// idle, and never one that is being served.
func TestTheLongestQuietConnectionGivesWay(t *testing.T) {
	c := newCrowded(t, 3)
	c.start()
	silent, slow := c.dial(), c.dial()
	io.WriteString(slow, "GET / HTTP/1.1\r\nX-Slow: ")
	busy := c.dial()
	io.WriteString(busy, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
	<-c.serving
	if n := c.present(); n != 3 {
		t.Errorf("%d are in at the limit", n)
	}
	next := c.dial()
	c.closed("the silent one", silent)
	if got := c.ask(next, "/"); got != "HTTP/1.1 200 OK" {
		t.Error(got)
	}
	last := c.dial()
	c.closed("the slow one", slow)
	if got := c.ask(last, "/"); got != "HTTP/1.1 200 OK" {
		t.Error(got)
	}
	close(c.release)
	got := make([]byte, len("HTTP/1.1 200 OK"))
	if _, err := io.ReadFull(busy, got); err != nil || string(got) != "HTTP/1.1 200 OK" {
		t.Errorf("the one that was served gets %q, %v", got, err)
	}
	if n := c.present(); n > 3 {
		t.Errorf("%d are in", n)
	}
}

// When all are being served, one that was taken over included, a new one is refused, and there is
// room again when one ends.
func TestAFullHouseRefuses(t *testing.T) {
	c := newCrowded(t, 2)
	c.start()
	first, second := c.dial(), c.dial()
	io.WriteString(first, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
	io.WriteString(second, "GET /take HTTP/1.1\r\nHost: x\r\n\r\n")
	<-c.serving
	<-c.serving
	c.closed("a third one", c.dial())
	close(c.release)
	c.closed("the one that was taken over", second)
	if got := c.ask(c.dial(), "/"); got != "HTTP/1.1 200 OK" {
		t.Error(got)
	}
}

// Over TLS, too: a connection of HTTP/2 counts once, and stays while any of its requests is served.
func TestTheCrowdOverTLS(t *testing.T) {
	c := newCrowded(t, 1)
	c.srv.StartTLS()
	c.addr = c.srv.Listener.Addr().String()
	client := c.srv.Client()
	c.Cleanup(client.CloseIdleConnections)
	got := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c.finished.Go(func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, c.srv.URL+"/wait", nil) // the URL is good
		res, err := client.Do(req)
		if err == nil {
			err = res.Body.Close()
			if res.ProtoMajor != 2 {
				err = fmt.Errorf("served by %s", res.Proto)
			}
		}
		got <- err
	})
	<-c.serving
	res, err := client.Get(c.srv.URL + "/") // on the same connection
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	c.closed("a stranger", c.dial())
	close(c.release)
	if err := <-got; err != nil {
		t.Error(err)
	}
	other, err := tls.Dial("tcp", c.addr, client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatalf("the quiet one does not give way: %v", err)
	}
	other.Close()
}

// Strangers never get more than a quarter of the files.
func TestShareOfFiles(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	quarter := int(files.Cur / 4)
	for most, want := range map[int]int{1: 1, quarter - 1: quarter - 1, quarter: quarter, quarter + 1: quarter} {
		if got := shareOfFiles(most); got != want {
			t.Errorf("of %d: %d, want %d", most, got, want)
		}
	}
}
