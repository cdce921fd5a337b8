package ingress

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// everywhere runs f with the same replica as a container here, a container on another node, and a
// wasm guest on another node. at is the address of the users' ingress.
func everywhere(t *testing.T, h http.HandlerFunc, f func(t *testing.T, n *network, at string)) {
	for _, where := range []string{"local container", "remote container", "remote wasm"} {
		t.Run(where, func(t *testing.T) {
			n := newNetwork(t)
			one, local := n.node("n-1", "a")
			_, there := n.node("n-2", "b")
			n.endpoint("r-2", "n-2", "b")
			one.Update(&n.table)
			switch where {
			case "local container":
				local.set("r-1", n.container(h))
			case "remote container":
				there.set("r-2", n.container(h))
			default:
				there.set("r-2", wasm(h))
			}
			f(t, n, n.public(one).Listener.Addr().String())
		})
	}
}

// raw writes a request as it stands and reads the answer.
func raw(t *testing.T, at, request, method string) (*http.Response, string, net.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, request)
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body), conn
}

func TestHeadHasNoBody(t *testing.T) {
	everywhere(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.Header().Set("Method", r.Method)
		io.WriteString(w, "hello")
	}, func(t *testing.T, _ *network, at string) {
		res, body, _ := raw(t, at, "HEAD / HTTP/1.1\r\nHost: web.localhost\r\nConnection: close\r\n\r\n", "HEAD")
		if res.StatusCode != 200 || res.ContentLength != 5 || res.Header.Get("Method") != "HEAD" || body != "" {
			t.Errorf("%d, length %d, asked %s, body %q", res.StatusCode, res.ContentLength, res.Header.Get("Method"), body)
		}
	})
}

func TestConnectionCloseIsKept(t *testing.T) {
	everywhere(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "bye") }, func(t *testing.T, _ *network, at string) {
		res, body, conn := raw(t, at, "GET / HTTP/1.1\r\nHost: web.localhost\r\nConnection: close\r\n\r\n", "GET")
		if !res.Close || body != "bye" {
			t.Errorf("close %v, body %q", res.Close, body)
		}
		if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection was not closed: %d bytes, %v", n, err)
		}
	})
}

func TestTrailersPass(t *testing.T) {
	everywhere(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "Sum")
		io.WriteString(w, "body")
		w.Header().Set("Sum", "of "+r.Trailer.Get("Asked"))
	}, func(t *testing.T, _ *network, at string) {
		res, body, _ := raw(t, at, "POST / HTTP/1.1\r\nHost: web.localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: Asked\r\n\r\n"+
			"4\r\nbody\r\n0\r\nAsked: trailer\r\n\r\n", "POST")
		if body != "body" || res.Trailer.Get("Sum") != "of trailer" {
			t.Errorf("body %q, trailers %v", body, res.Trailer)
		}
	})
}

func TestEarlyHintsPass(t *testing.T) {
	everywhere(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "page")
	}, func(t *testing.T, _ *network, at string) {
		var hints []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, " ", h.Get("Link")))
			return nil
		}}
		req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", "http://"+at, nil)
		req.Host = "web.localhost"
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if diff := cmp.Diff([]string{"103 </style.css>; rel=preload"}, hints); diff != "" || res.StatusCode != 200 {
			t.Errorf("%d, hints: %s", res.StatusCode, diff)
		}
	})
}

// A client that sends Expect: 100-continue keeps its body until it is asked for, and only then.
func TestExpectContinue(t *testing.T) {
	everywhere(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "got %s", body)
	}, func(t *testing.T, _ *network, at string) {
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: web.localhost\r\nConnection: close\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
		r := bufio.NewReader(conn)
		if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
		r.ReadString('\n')
		io.WriteString(conn, "body")
		res, err := http.ReadResponse(r, nil) // a second 100 would be taken for the answer
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); res.StatusCode != 200 || string(body) != "got body" || err != nil {
			t.Errorf("%d %q, %v", res.StatusCode, body, err)
		}
	})
}

// The largest head that a client may send passes between nodes, where our own headers are added to it;
// a larger one is told as such.
func TestALargeHeadPasses(t *testing.T) {
	const slack = 4096 // net/http allows that much over MaxHeaderBytes
	large := strings.Repeat("x", api.MaxHeaderBytes+slack-100)
	everywhere(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Large", r.Header.Get("Large"))
	}, func(t *testing.T, n *network, at string) {
		res, _, _ := raw(t, at, "GET / HTTP/1.1\r\nHost: web.localhost\r\nConnection: close\r\nLarge: "+large+"\r\n\r\n", "GET")
		if res.StatusCode != 200 || res.Header.Get("Large") != large {
			t.Errorf("%d with a header of %d bytes", res.StatusCode, len(res.Header.Get("Large")))
		}
		res, _, _ = raw(t, at, "GET / HTTP/1.1\r\nHost: web.localhost\r\nConnection: close\r\nLarge: "+large+large[:200]+"\r\n\r\n", "GET")
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%d with too large a head", res.StatusCode)
		}
	})
}

func TestAClientThatLeavesEndsTheRequest(t *testing.T) {
	ended := make(chan struct{}, 1)
	begun := make(chan struct{}, 1)
	everywhere(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}, func(t *testing.T, n *network, at string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+at, nil)
		req.Host = "web.localhost"
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		done := make(chan error, 1)
		go func() {
			_, err := client.Do(req)
			done <- err
		}()
		for _, step := range []chan struct{}{begun, ended} {
			select {
			case <-step:
			case <-time.After(patience):
				t.Fatal("the replica's request neither begins nor ends")
			}
			cancel()
		}
		if err := <-done; err == nil {
			t.Error("an answer came after the client had gone")
		}
	})
}

// oneConn is a listener of one connection.
type oneConn struct {
	conn chan net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error   { close(l.done); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// A client that reads slowly gets all; one that reads nothing at all loses its place.
func TestAStuckClientIsCutOffAndASlowOneIsNot(t *testing.T) {
	const size = 100
	synctest.Test(t, func(t *testing.T) {
		var written atomic.Int64
		failed := make(chan time.Duration, 1)
		local := &here{replicas: map[string]replica{}}
		local.set("r-1", replica{service: "web", endpoint: sandbox.Endpoint{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for range size {
				began := time.Now()
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					failed <- time.Since(began)
					return
				}
				written.Add(1)
			}
		})}})
		client, end := served(t, local)
		defer end()
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: web.localhost\r\n\r\n")
		for written.Load() < size/2 {
			time.Sleep(clientStall / 2) // fake time: the client's pace
			if _, err := client.Read(make([]byte, 4096)); err != nil {
				t.Fatalf("a slow client was cut off after %d blocks: %v", written.Load(), err)
			}
		}
		began := time.Now() // from here it reads nothing
		<-failed
		if took := time.Since(began); took < clientStall/2 || took > clientStall+time.Second {
			t.Errorf("a stuck client was cut off after %v, want about %v", took, clientStall)
		}
	})
}

// TestAClientThatNeverTakesTheEndIsCutOff: what a guest has said is flushed when it has returned.
func TestAClientThatNeverTakesTheEndIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local := &here{replicas: map[string]replica{}}
		local.set("r-1", wasm(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
		client, end := served(t, local)
		defer end()
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: web.localhost\r\n\r\n")
		time.Sleep(clientStall + time.Second) // fake time
		if answer, err := io.ReadAll(client); len(answer) > 0 || err != nil {
			t.Errorf("after %v the client gets %q, %v", clientStall, answer, err)
		}
	})
}

// TestAQuietStreamLastsOverHTTP2, where a stuck client is cut off all the same.
func TestAQuietStreamLastsOverHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan time.Duration, 1)
		local := &here{replicas: map[string]replica{}}
		local.set("r-1", wasm(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "one ")
			http.NewResponseController(w).Flush()
			time.Sleep(2 * clientStall) // fake time
			io.WriteString(w, "two")
			for began := time.Now(); r.URL.Path == "/endless"; {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					failed <- time.Since(began)
					return
				}
			}
		}))
		client, end := served(t, local)
		defer end()
		transport := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) { return client, nil }}
		transport.Protocols.SetUnencryptedHTTP2(true)
		get := func(path string) *http.Response {
			res, err := transport.RoundTrip(httptest.NewRequest("GET", "http://web.localhost"+path, http.NoBody))
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		res := get("/")
		if body, err := io.ReadAll(res.Body); res.ProtoMajor != 2 || string(body) != "one two" || err != nil {
			t.Errorf("%s: %q, %v", res.Proto, body, err)
		}
		stuck := get("/endless")
		if took := <-failed; took < clientStall || took > clientStall+time.Second {
			t.Errorf("a stuck client was cut off after %v, want about %v", took, clientStall)
		}
		stuck.Body.Close()
	})
}

// served is a user's connection to the ingress of a node, for a bubble.
func served(t *testing.T, local *here) (client net.Conn, end func()) {
	n := newNetwork(t)
	in := New(Config{NodeID: "n-1", Local: local, Log: zerolog.Nop()})
	in.Update(&n.table)
	ln := &oneConn{conn: make(chan net.Conn, 1), done: make(chan struct{})}
	srv := &http.Server{Handler: in.Public(), Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	client, server := net.Pipe()
	client.SetDeadline(time.Now().Add(time.Hour)) // of the bubble's
	ln.conn <- server
	return client, func() {
		srv.Close()
		<-done
		client.Close()
		in.Close()
	}
}

// TestTheLastRequestsTimeIsNotTheNextOnes: a replica may think for longer than that before it asks for the body, and
// for longer before it answers.
func TestTheLastRequestsTimeIsNotTheNextOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local := &here{replicas: map[string]replica{}}
		local.set("r-1", wasm(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(2 * clientStall) // fake time
			body, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %v", r.Method, body, err)
		}))
		client, end := served(t, local)
		defer end()
		answers := bufio.NewReader(client)
		for _, c := range []struct{ method, head, body, want string }{
			{"GET", "", "", "GET  <nil>"}, {"GET", "", "", "GET  <nil>"},
			{"PUT", "Content-Length: 4\r\nExpect: 100-continue\r\n", "body", "PUT body <nil>"},
		} {
			fmt.Fprintf(client, "%s / HTTP/1.1\r\nHost: web.localhost\r\n%s\r\n", c.method, c.head)
			if c.body != "" {
				if line, err := answers.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
					t.Fatalf("%s: %q, %v", c.method, line, err)
				}
				answers.ReadString('\n')
				io.WriteString(client, c.body)
			}
			res, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatalf("%s: %v", c.method, err)
			}
			if body, err := io.ReadAll(res.Body); string(body) != c.want || err != nil {
				t.Errorf("%s: %q, %v", c.method, body, err)
			}
		}
	})
}

// Users may speak HTTP/2 where the ingress has a certificate; replicas see the same request.
func TestHTTP2FromUsers(t *testing.T) {
	ended := make(chan struct{})
	n := newNetwork(t)
	one, _ := n.node("n-1", "a")
	_, there := n.node("n-2", "b")
	n.endpoint("r-2", "n-2", "b")
	one.Update(&n.table)
	there.set("r-2", n.container(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
			close(ended)
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Sum")
		fmt.Fprintf(w, "%s %s %s", r.Host, r.Header.Get("X-Forwarded-Proto"), body)
		w.Header().Set("Sum", "of "+r.Trailer.Get("Asked"))
	}))
	srv := httptest.NewUnstartedServer(one.Public())
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "POST", srv.URL, struct{ io.Reader }{strings.NewReader("body")})
	req.Host, req.Trailer = "web.localhost", http.Header{"Asked": {"trailer"}}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if res.ProtoMajor != 2 || string(body) != "web.localhost https body" || err != nil || res.Trailer.Get("Sum") != "of trailer" {
		t.Errorf("%s: %q (%v), trailers %v", res.Proto, body, err, res.Trailer)
	}
	leaving, leave := context.WithCancel(ctx)
	req, _ = http.NewRequestWithContext(leaving, "GET", srv.URL, nil)
	req.Host = "web.localhost"
	if res, err = srv.Client().Do(req); err != nil {
		t.Fatal(err)
	}
	leave()
	res.Body.Close()
	select {
	case <-ended:
	case <-ctx.Done():
		t.Error("the replica's request did not end with its client")
	}
}

// TestABodyThatIsLeftIsNotTheNextRequest: a guest here answers before it has read a long body. The rest must
// never be taken for a request.
func TestABodyThatIsLeftIsNotTheNextRequest(t *testing.T) {
	n := newNetwork(t)
	in, local := n.node("n-1", "a")
	in.cfg.Observe = func(string, int64, int64, time.Duration) {}
	in.Update(&n.table)
	local.set("r-1", wasm(func(w http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		io.WriteString(w, "no more")
	}))
	left := strings.Repeat("\x00", 1<<20)
	res, body, conn := raw(t, n.public(in).Listener.Addr().String(), fmt.Sprintf("PUT / HTTP/1.1\r\nHost: web.localhost\r\nContent-Length: %d\r\n\r\n%s", len(left), left), "PUT")
	if res.StatusCode != 200 || body != "no more" {
		t.Errorf("%s, %q", res.Status, body)
	}
	if rest, err := io.ReadAll(conn); len(rest) > 0 {
		t.Errorf("and then %.60q, %v", rest, err)
	}
}
