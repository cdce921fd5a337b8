package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const origin = "api.example.com"

// world is a server that stands for every host, and counts the connections made to it.
type world struct {
	*httptest.Server
	dials atomic.Int32
}

func newWorld(t *testing.T, tls bool, handler http.HandlerFunc) *world {
	w := &world{Server: httptest.NewUnstartedServer(handler)}
	w.EnableHTTP2 = true
	if tls {
		w.StartTLS()
	} else {
		w.Start()
	}
	t.Cleanup(w.Close)
	return w
}

// client reaches the world under the names that allow lists.
func (w *world) client(t *testing.T, allow ...string) *Client {
	n := Network{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		w.dials.Add(1)
		var d net.Dialer
		return d.DialContext(ctx, "tcp", w.Listener.Addr().String())
	}}
	if cert := w.Certificate(); cert != nil {
		n.Roots = x509.NewCertPool()
		n.Roots.AddCert(cert)
	}
	c, err := NewClient(n, allow)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func open(t *testing.T, f *Fetches, method, url string, header http.Header) int {
	t.Helper()
	h, err := f.Open(method, url, header)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// body reads a response to its end.
func body(f *Fetches, h int) (string, error) {
	var all []byte
	buf := make([]byte, 1000)
	for {
		n, err := f.Read(h, buf)
		all = append(all, buf[:n]...)
		if err == io.EOF {
			return string(all), nil
		}
		if err != nil {
			return string(all), err
		}
	}
}

// What a guest sends and what it gets, by HTTP/1.1 and by HTTP/2 with a certificate that is checked.
func TestAFetchThereAndBack(t *testing.T) {
	for name, tt := range map[string]struct {
		tls   bool
		url   string
		proto string
	}{
		"HTTP/1.1": {false, "http://api.example.com/a?b=c", "HTTP/1.1"},
		"HTTP/2":   {true, "https://api.example.com/a?b=c", "HTTP/2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tt.tls, func(w http.ResponseWriter, r *http.Request) {
				got, _ := io.ReadAll(r.Body)
				w.Header().Set("X-Got", fmt.Sprintf("%s %s %s %s %q %q %v", r.Proto, r.Method, r.Host, r.RequestURI, got, r.Header, r.ContentLength))
				w.Header().Set("Content-Encoding", "gzip")
				w.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(w, "not gzip at all")
			})
			f := w.client(t, origin+":80", origin+":443").Fetches(t.Context())
			h := open(t, f, "PUT", tt.url, http.Header{"X-One": {"1"}, "Content-Length": {"6"}, "Host": {origin}})
			for _, part := range []string{"abc", "", "def"} {
				if n, err := f.Write(h, []byte(part)); n != len(part) || err != nil {
					t.Fatal(n, err)
				}
			}
			status, header, err := f.Head(h)
			want := tt.proto + ` PUT api.example.com /a?b=c "abcdef" map["Content-Length":["6"] "X-One":["1"]] 6`
			if err != nil || status != http.StatusTeapot || header.Get("X-Got") != want {
				t.Errorf("status %d, %v\ngot  %s\nwant %s", status, err, header.Get("X-Got"), want)
			}
			if got, err := body(f, h); got != "not gzip at all" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			if status, _, err := f.Head(h); status != http.StatusTeapot || err != nil {
				t.Error("the head is there only once:", status, err)
			}
			if err := f.Close(h); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestACertificateOfNobodyIsRefused(t *testing.T) {
	w := newWorld(t, true, func(http.ResponseWriter, *http.Request) {})
	w.Config.ErrorLog = nil
	c := w.client(t, origin+":443", "other.test:443")
	f := c.Fetches(t.Context())
	if _, _, err := f.Head(open(t, f, "GET", "https://other.test/", nil)); errnoOf(err) != ErrnoProtocol || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
	c.transport.TLSClientConfig.RootCAs = x509.NewCertPool()
	if _, _, err := f.Head(open(t, f, "GET", "https://"+origin+"/", nil)); errnoOf(err) != ErrnoProtocol || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
}

// A request without a body says so; one of unknown length is sent in chunks as it is written.
func TestBodiesAreStreamed(t *testing.T) {
	lengths := make(chan int64, 3)
	w := newWorld(t, false, func(w http.ResponseWriter, r *http.Request) {
		lengths <- r.ContentLength
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "<%s>", lines.Text())
			_ = http.NewResponseController(w).Flush()
		}
	})
	f := w.client(t, origin+":80").Fetches(t.Context())
	h := open(t, f, "POST", "http://api.example.com/", nil)
	if _, _, err := f.Head(h); err != nil || <-lengths != 0 {
		t.Error(err)
	}
	h = open(t, f, "POST", "http://api.example.com/", nil)
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := f.Write(h, []byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if n := <-lengths; n != -1 {
		t.Errorf("length %d before its end", n)
	}
	if got, err := body(f, h); got != "<one><two>" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := f.Write(h, []byte("x")); errnoOf(err) != ErrnoClosed {
		t.Error("written after its end:", err)
	}
}

// What a server answers before it has read all is the answer.
func TestAnEarlyAnswerEndsTheBody(t *testing.T) {
	w := newWorld(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		http.Error(w, "too much", http.StatusRequestEntityTooLarge)
	})
	f := w.client(t, origin+":80").Fetches(t.Context())
	h := open(t, f, "POST", "http://api.example.com/", nil)
	piece := make([]byte, 1<<20)
	var err error
	for range MaxBodyBytes / len(piece) {
		if _, err = f.Write(h, piece); err != nil {
			break
		}
	}
	if errnoOf(err) != ErrnoClosed {
		t.Error("a body that nobody reads is taken whole:", err)
	}
	if status, _, err := f.Head(h); status != http.StatusRequestEntityTooLarge && errnoOf(err) != ErrnoReset {
		t.Error(status, err)
	}
}

// A redirect is the guest's to follow, and where it leads is judged as any other request.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var asked atomic.Int32
	w := newWorld(t, false, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, "http://evil.test/", http.StatusFound)
	})
	f := w.client(t, origin+":80").Fetches(t.Context())
	status, header, err := f.Head(open(t, f, "GET", "http://api.example.com/", nil))
	if status != http.StatusFound || header.Get("Location") != "http://evil.test/" || err != nil || asked.Load() != 1 {
		t.Error(status, header, err, asked.Load())
	}
	if _, err := f.Open("GET", header.Get("Location"), nil); errnoOf(err) != ErrnoAccess {
		t.Error(err)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	w := newWorld(t, false, func(http.ResponseWriter, *http.Request) {})
	c := w.client(t, origin+":80", origin+":443", "[2001:db8::1]:80")
	for _, tt := range []struct {
		method, url string
		header      http.Header
		want        Errno
	}{
		{"GET", "http://other.test/", nil, ErrnoAccess},
		{"GET", "http://api.example.com:8080/", nil, ErrnoAccess},
		{"GET", "http://api.example.com@evil.test/", nil, ErrnoInvalid},
		{"GET", "http://127.0.0.1/", nil, ErrnoAccess},
		{"GET", "http://[::1]/", nil, ErrnoAccess},
		{"GET", "http://[2001:db8::1%25eth0]/", nil, ErrnoAccess},
		{"GET", "//api.example.com/", nil, ErrnoInvalid},
		{"GET", "api.example.com", nil, ErrnoInvalid},
		{"GET", "file:///etc/passwd", nil, ErrnoInvalid},
		{"GET", "ftp://api.example.com/", nil, ErrnoInvalid},
		{"GET", "http:///", nil, ErrnoInvalid},
		{"GET", "http://api.example.com:0/", nil, ErrnoInvalid},
		{"GET", "http://api.example.com:65536/", nil, ErrnoInvalid},
		{"GET", "http://user:pw@api.example.com/", nil, ErrnoInvalid},
		{"GET", "http://\u212Aube.test/", nil, ErrnoInvalid},
		{"GET", "http://a b/", nil, ErrnoInvalid},
		{"", "ht!tp://", nil, ErrnoInvalid},
		{"CONNECT", "http://api.example.com/", nil, ErrnoInvalid},
		{"G ET", "http://api.example.com/", nil, ErrnoInvalid},
		{"GET", "http://api.example.com/", http.Header{"Host": {"evil.test"}}, ErrnoInvalid},
		{"GET", "http://api.example.com/", http.Header{"Host": {origin, origin}}, ErrnoInvalid},
		{"GET", "http://api.example.com/", http.Header{"Content-Length": {"-1"}}, ErrnoInvalid},
		{"GET", "http://api.example.com/", http.Header{"Content-Length": {"1", "1"}}, ErrnoInvalid},
		{"GET", "http://api.example.com/", http.Header{"Content-Length": {fmt.Sprint(MaxBodyBytes + 1)}}, ErrnoTooLarge},
	} {
		f := c.Fetches(t.Context())
		if h, err := f.Open(tt.method, tt.url, tt.header); errnoOf(err) != tt.want || h != 0 || err.Error() == "" {
			t.Errorf("%s %s %v: handle %d, %v", tt.method, tt.url, tt.header, h, err)
		}
		if h, err := f.Open("GET", "http://api.example.com/", http.Header{"Content-Length": {fmt.Sprint(MaxBodyBytes)}}); h != 1 || err != nil {
			t.Error("a refusal took a handle, or the limit itself is refused:", h, err)
		}
	}
	if w.dials.Load() != 0 {
		t.Error("a connection was made")
	}
}

func TestBodiesThatAreNotAsAnnounced(t *testing.T) {
	w := newWorld(t, false, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	f := w.client(t, origin+":80").Fetches(t.Context())
	h := open(t, f, "PUT", "http://api.example.com/", http.Header{"Content-Length": {"3"}})
	if _, err := f.Write(h, []byte("abcd")); errnoOf(err) != ErrnoInvalid {
		t.Error("longer than announced:", err)
	}
	if _, err := f.Write(h, []byte("ab")); err != nil {
		t.Error(err)
	}
	for range 2 {
		if _, _, err := f.Head(h); errnoOf(err) != ErrnoInvalid || !strings.Contains(err.Error(), "3 bytes") {
			t.Error("shorter than announced:", err)
		}
	}
}

// Bodies in both directions end exactly at their limit.
func TestBodyLimits(t *testing.T) {
	w := newWorld(t, false, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "abc")
	})
	c := w.client(t, origin+":80")
	for over := -1; over <= 1; over++ {
		f := c.Fetches(t.Context())
		h := open(t, f, "PUT", "http://api.example.com/", nil)
		f.open[h-1].sent = MaxBodyBytes - 3 + int64(over)
		if _, err := f.Write(h, []byte("abc")); (errnoOf(err) == ErrnoTooLarge) != (over > 0) {
			t.Errorf("request %d over: %v", over, err)
		}
		f.open[h-1].got = MaxBodyBytes - 3 + int64(over)
		got, err := body(f, h)
		if (errnoOf(err) == ErrnoTooLarge) != (over > 0) || (got == "abc") != (over <= 0) {
			t.Errorf("response %d over: %q, %v", over, got, err)
		}
	}
}

func TestTheTableIsBounded(t *testing.T) {
	w := newWorld(t, false, func(http.ResponseWriter, *http.Request) {})
	f := w.client(t, origin+":80").Fetches(t.Context())
	for i := range MaxOpen {
		if h := open(t, f, "GET", "http://api.example.com/", nil); h != i+1 {
			t.Errorf("handle %d for the open number %d", h, i+1)
		}
	}
	if _, err := f.Open("GET", "http://api.example.com/", nil); errnoOf(err) != ErrnoTooMany {
		t.Error(err)
	}
	if err := f.Close(7); err != nil {
		t.Error(err)
	}
	if h := open(t, f, "GET", "http://api.example.com/", nil); h != 7 {
		t.Errorf("the handle given back was 7, the next is %d", h)
	}
	for _, h := range []int{-1, 0, MaxOpen + 1, 1 << 30} {
		_, e1 := f.Write(h, []byte("x"))
		_, _, e2 := f.Head(h)
		_, e3 := f.Read(h, make([]byte, 1))
		for _, err := range []error{e1, e2, e3, f.Close(h)} {
			if errnoOf(err) != ErrnoHandle {
				t.Errorf("handle %d: %v", h, err)
			}
		}
	}
	if err := f.Close(7); err != nil {
		t.Error(err)
	}
	if errnoOf(f.Close(7)) != ErrnoHandle {
		t.Error("a handle is closed twice")
	}
}

// Requests one after the other share a connection; requests at the same time are bounded by maxConns.
func TestConnectionsAreSharedAndBounded(t *testing.T) {
	const calls = maxConns + 10
	var now, most atomic.Int32
	full, once := make(chan struct{}), sync.Once{}
	w := newWorld(t, false, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			return
		}
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == maxConns {
			once.Do(func() { close(full) })
		}
		<-full
	})
	c := w.client(t, origin+":80")
	f := c.Fetches(t.Context())
	for range 5 {
		h := open(t, f, "GET", "http://api.example.com/quick", nil)
		if _, err := body(f, h); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(h); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.dials.Load(); n != 1 {
		t.Errorf("%d connections for 5 requests", n)
	}
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			f := c.Fetches(t.Context())
			h, err := f.Open("GET", "http://api.example.com/", nil)
			if err == nil {
				_, err = body(f, h)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() != maxConns {
		t.Errorf("%d requests at the same time, %d connections are allowed", most.Load(), maxConns)
	}
}

// The end of the guest's call, and the end of the replica, end what waits; nothing is left behind.
func TestFetchesEndWithTheirCallAndTheirClient(t *testing.T) {
	arrived := make(chan struct{})
	w := newWorld(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			_ = http.NewResponseController(w).Flush()
		}
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	wait := map[string]func(f *Fetches, h int) error{
		"/head": func(f *Fetches, h int) error { _, _, err := f.Head(h); return err },
		"/body": func(f *Fetches, h int) error { _, err := body(f, h); return err },
	}
	for path, waitFor := range wait {
		for _, byClient := range []bool{false, true} {
			c := w.client(t, origin+":80")
			ctx, cancel := context.WithCancel(t.Context())
			f := c.Fetches(ctx)
			h := open(t, f, "GET", "http://api.example.com"+path, nil)
			result := make(chan error, 1)
			go func() { result <- waitFor(f, h) }()
			<-arrived
			if byClient {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			} else {
				cancel()
			}
			if err := <-result; errnoOf(err) == 0 || !byClient && errnoOf(err) != ErrnoEnded {
				t.Errorf("%s, by the client's end %v: %v", path, byClient, err)
			}
			cancel()
		}
	}
}

func TestAClosedClientMakesNoConnection(t *testing.T) {
	w := newWorld(t, false, func(http.ResponseWriter, *http.Request) {})
	c := w.client(t, origin+":80")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	f := c.Fetches(t.Context())
	if _, _, err := f.Head(open(t, f, "GET", "http://api.example.com/", nil)); errnoOf(err) == 0 {
		t.Error(err)
	}
}

// A body that nobody reads holds its writer up until the call ends; then nobody waits for it any more.
func TestAWriteEndsWithItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := Network{Dial: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			context.AfterFunc(t.Context(), func() { _ = there.Close() })
			return here, nil
		}}
		c, err := NewClient(n, []string{origin + ":80"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f := c.Fetches(ctx)
		h := open(t, f, "POST", "http://api.example.com/", nil)
		for err == nil {
			_, err = f.Write(h, make([]byte, 1<<20))
		}
		if errnoOf(err) != ErrnoClosed || ctx.Err() == nil {
			t.Error(err, ctx.Err())
		}
		if _, _, err := f.Head(h); errnoOf(err) != ErrnoEnded {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// servers of one behaviour each, on pipes, in a bubble: what a guest is told of each, and when.
func TestServersThatDoNotAnswerAsTheyShould(t *testing.T) {
	for name, tt := range map[string]struct {
		serve func(c net.Conn)
		want  Errno
		after time.Duration
	}{
		"silent":       {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, ErrnoTimeout, stallTimeout},
		"gone at once": {func(c net.Conn) { readHead(c) }, ErrnoReset, 0},
		"no HTTP":      {func(c net.Conn) { readHead(c); say(c, "SSH-2.0\r\n\r\n") }, ErrnoProtocol, 0},
		"another protocol": {func(c net.Conn) {
			readHead(c)
			say(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
		}, ErrnoProtocol, 0},
		"a body cut short": {func(c net.Conn) { readHead(c); say(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc") }, ErrnoReset, 0},
		"a body that stops": {func(c net.Conn) {
			readHead(c)
			say(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
			_, _ = io.Copy(io.Discard, c)
		}, ErrnoTimeout, stallTimeout},
		"a huge head": {func(c net.Conn) {
			readHead(c)
			say(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 2*maxHead)+"\r\n\r\n")
		}, ErrnoProtocol, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := Network{Dial: func(context.Context, string, string) (net.Conn, error) {
					here, there := net.Pipe()
					go func() {
						defer there.Close()
						tt.serve(there)
					}()
					return here, nil
				}}
				c, err := NewClient(n, []string{origin + ":80"})
				if err != nil {
					t.Fatal(err)
				}
				f := c.Fetches(t.Context())
				began := time.Now()
				_, err = body(f, open(t, f, "GET", "http://api.example.com/", nil))
				if errnoOf(err) != tt.want {
					t.Errorf("%v, errno %d, want %d", err, errnoOf(err), tt.want)
				}
				if took := time.Since(began); took != tt.after {
					t.Errorf("told after %s, want %s", took, tt.after)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// readHead reads a request's head.
// A server of HTTP/2 may send no more than what is kept for a guest that does not read: it would be in our memory.
func TestResponsesAreNotReadAhead(t *testing.T) {
	w := &world{Server: httptest.NewUnstartedServer(nil)}
	told := make(chan map[string]uint32, 1)
	w.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": func(_ *http.Server, c *tls.Conn, _ http.Handler) {
		defer c.Close()
		told <- windows(c)
	}}
	w.EnableHTTP2 = true
	w.StartTLS()
	defer w.Close()
	f := w.client(t, origin+":443").Fetches(t.Context())
	h := open(t, f, "GET", "https://"+origin+"/", nil)
	if _, _, err := f.Head(h); err == nil {
		t.Error("a server that says nothing has answered")
	}
	want := map[string]uint32{"of a response": maxAhead, "more of a connection": maxAheadConn}
	if got := <-told; !maps.Equal(got, want) {
		t.Errorf("the server may send %v ahead, want %v", got, want)
	}
}

// windows are what a client of HTTP/2 lets its server send: it says so before its first request.
func windows(c net.Conn) map[string]uint32 {
	found := map[string]uint32{}
	_, _ = io.ReadFull(c, make([]byte, len(http2.ClientPreface)))
	for frames := http2.NewFramer(c, c); len(found) < 2; {
		switch frame, err := frames.ReadFrame(); frame := frame.(type) {
		case *http2.SettingsFrame:
			found["of a response"], _ = frame.Value(http2.SettingInitialWindowSize)
		case *http2.WindowUpdateFrame:
			found["more of a connection"] = frame.Increment // than the 64 KiB that each begins with
		default:
			return map[string]uint32{fmt.Sprint(frame, err): 0}
		}
	}
	return found
}

func readHead(c net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(c)) }

func say(c net.Conn, text string) { _, _ = io.WriteString(c, text) }
