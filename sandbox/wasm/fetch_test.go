package wasm

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox/egress"
)

// newReachingDriver makes a driver whose guests find one server wherever they go.
func newReachingDriver(t *testing.T, handler http.HandlerFunc) (*Driver, *atomic.Int32) {
	t.Helper()
	world, dials := httptest.NewTLSServer(handler), &atomic.Int32{}
	t.Cleanup(world.Close)
	roots := x509.NewCertPool()
	roots.AddCert(world.Certificate())
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, "tcp", world.Listener.Addr().String())
	}
	d, err := New(Config{CacheDir: t.TempDir(), Log: zerolog.Nop(), Network: egress.Network{Roots: roots, Dial: dial}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d, dials
}

// A guest reaches what its manifest names, with its request and its answer whole, and nothing else: of
// that it is told the number, and the log the reason.
func TestAGuestReachesWhatItsManifestNames(t *testing.T) {
	d, dials := newReachingDriver(t, func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Request", fmt.Sprintf("%s %s%s %v %q", r.Method, r.Host, r.URL, r.Header, got))
		w.Header()["Date"] = nil
		if r.URL.Path == "/away" {
			w.Header().Set("Location", "https://evil.test/")
			w.WriteHeader(http.StatusFound)
		}
		_, _ = io.WriteString(w, strings.ToUpper(string(got)))
	})
	spec := moduleSpec("fetch", api.ModeHTTP)
	spec.Egress = []string{"example.com:443"}
	server, _, log := serve(t, d, spec)
	for ask, want := range map[string]string{
		"GET https://example.com/a?b=c\nX-One: 1\nConnection: x-two\nX-Two: 2\n": "200\ncontent-length: 0\nx-request: GET example.com/a?b=c map[X-One:[1]] \"\"\n\n",
		"PUT https://example.com/\ncontent-length: 5\n\nhello":                   "200\ncontent-length: 5\ncontent-type: text/plain; charset=utf-8\nx-request: PUT example.com/ map[Content-Length:[5]] \"hello\"\n\nHELLO",
		"GET https://example.com/away\n":                                         "302\ncontent-length: 0\nlocation: https://evil.test/\nx-request: GET example.com/away map[] \"\"\n\n",
		"GET https://evil.test/\n":                                               "open -13\n",
		"GET http://example.com/\n":                                              "open -13\n",
		"GET https://example.com:8443/\n":                                        "open -13\n",
		"GET https://127.0.0.1/\n":                                               "open -13\n",
		"GET /\n":                                                                "open -22\n",
		"GET\n":                                                                  "open -22\n",
		"":                                                                       "open -22\n",
		"GET https://example.com/\nno field\n":                                   "open -22\n",
		"GET https://example.com/\nhost: evil.test\n":                            "open -22\n",
		"PUT https://example.com/\ncontent-length: 5\n\nhel":                     "head -22\n",
		"PUT https://example.com/\ncontent-length: 2\n\nhello":                   "write-22\nhead -22\n",
		"GET https://example.com/\nx: " + strings.Repeat("x", api.MaxHeaderBytes): "open -27\n",
	} {
		_, got, err := fetch(t, http.MethodPost, server.URL, ask)
		if err != nil || got != want {
			t.Errorf("%.60q:\ngot  %q, %v\nwant %q", ask, got, err, want)
		}
	}
	for _, reason := range []string{"no rule of spec.egress.allow names evil.test:443", "names 127.0.0.1:443", "a URL begins with", "is not a header field", "5 bytes of a body were announced"} {
		if !strings.Contains(log.String(), "cloudless: fetch: ") || !strings.Contains(log.String(), reason) {
			t.Errorf("the log does not say %q:\n%s", reason, log)
		}
	}
	if n := dials.Load(); n > 4 {
		t.Errorf("%d connections for four requests: they are not kept, or more was reached than is allowed", n)
	}
}

// Security 15: a module that wants to reach the world and may not is refused before it starts, and told
// what would grant it.
func TestAnImportThatIsNotGrantedIsRefused(t *testing.T) {
	d := newDriver(t)
	for name, allow := range map[string][]string{"no rules": nil, "an empty list": {}} {
		spec := moduleSpec("fetch", api.ModeHTTP)
		spec.Egress = allow
		for what, err := range map[string]error{"Prepare": d.Prepare(t.Context(), spec), "Start": second(d.Start(t.Context(), spec))} {
			if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "cl.fetch_open") || !strings.Contains(err.Error(), "spec.egress.allow") {
				t.Errorf("%s, %s: %v", what, name, err)
			}
		}
	}
	spec := moduleSpec("fetch", api.ModeHTTP)
	spec.Egress = []string{"example.com"}
	if _, err := d.Start(t.Context(), spec); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a rule without a port: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// With the machine's own network, what lies inside is not reached though a rule names it.
func TestAGuestDoesNotReachThisMachine(t *testing.T) {
	asked := make(chan struct{}, 1)
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	defer inside.Close()
	_, port, err := net.SplitHostPort(inside.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	spec := moduleSpec("fetch", api.ModeHTTP)
	spec.Egress = []string{"0.0.0.0/0:" + port}
	server, _, log := serve(t, newDriver(t), spec)
	if _, got, err := fetch(t, http.MethodPost, server.URL, "GET "+inside.URL+"/\n"); err != nil || got != "head -13\n" {
		t.Errorf("%q, %v", got, err)
	}
	if !strings.Contains(log.String(), "loopback") {
		t.Error(log)
	}
	select {
	case <-asked:
		t.Error("the server on loopback was asked")
	default:
	}
}

// Arguments at every edge: what lies outside memory traps, what is no handle is told so, and what was
// opened by one request is not there for the next.
func TestFetchFunctionsWithHostileArguments(t *testing.T) {
	d, dials := newReachingDriver(t, func(http.ResponseWriter, *http.Request) {})
	spec := moduleSpec("fetchargs", api.ModeHTTP)
	spec.Egress = []string{"example.com:443"}
	server, _, log := serve(t, d, spec)
	call := func(name byte, args ...uint32) (status int, result int32) {
		t.Helper()
		body := []byte{name}
		for _, a := range append(args, 0, 0)[:3] {
			body = binary.LittleEndian.AppendUint32(body, a)
		}
		resp, text, err := fetch(t, http.MethodPost, server.URL, string(body))
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, int32(number(text))
	}
	const page, top, most = 1 << 16, 1 << 31, 1<<32 - 1
	outside := [][2]uint32{{page, 1}, {page - 1, 2}, {0, page + 1}, {most, 1}, {most, most}, {1, most}, {top, top}}
	for _, at := range outside {
		for _, name := range []byte("whr") {
			if status, n := call(name, 1, at[0], at[1]); status != http.StatusBadGateway {
				t.Errorf("%c with %d bytes at %d: status %d, result %d", name, at[1], at[0], status, n)
			}
		}
		if status, n := call('o', at[0], at[1]); status != http.StatusBadGateway {
			t.Errorf("o with %d bytes at %d: status %d, result %d", at[1], at[0], status, n)
		}
	}
	if !strings.Contains(log.String(), "outside memory") {
		t.Error(log)
	}
	for _, handle := range []uint32{0, 1, 16, 17, top, most} {
		for _, name := range []byte("whrc") {
			for _, n := range []uint32{0, 1, page} {
				if status, got := call(name, handle, 0, n); status != http.StatusOK || got != -9 {
					t.Errorf("%c of handle %d with %d bytes: status %d, result %d", name, handle, n, status, got)
				}
			}
		}
	}
	for range 2 {
		if status, h := call('o', 0, 25); status != http.StatusOK || h != 1 {
			t.Errorf("status %d, handle %d: it was left by another request", status, h)
		}
	}
	if status, n := call('o', page, 0); status != http.StatusOK || n != -22 {
		t.Errorf("nothing, at the end of memory: status %d, result %d", status, n)
	}
	if dials.Load() != 0 {
		t.Error("a connection was made for what was only opened")
	}
}

// A job fetches too; what it has under way ends with it.
func TestAJobFetches(t *testing.T) {
	silent := make(chan struct{})
	d, _ := newReachingDriver(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-silent:
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	spec := moduleSpec("fetchjob", api.ModeJob)
	spec.Egress = []string{"example.com:443"}
	h, log := start(t, d, spec)
	<-h.Done()
	if exit := h.Exit(); exit.Code != 0 || !strings.Contains(log.String(), "INFO 204") {
		t.Errorf("%+v, log %q", exit, log)
	}

	close(silent)
	spec.ID = api.NewID("r")
	h, _ = start(t, d, spec)
	if err := h.Stop(context.Background(), 0); err != nil {
		t.Error(err)
	}
	if exit := h.Exit(); exit.Code != codeForced {
		t.Errorf("stopped while it waits for a response: %+v", exit)
	}
}

// A head of any bytes is refused or opened, and never more than that.
func FuzzFetchHead(f *testing.F) {
	for _, seed := range []string{"GET https://example.com/\n", "POST https://example.com:443/?q HTTP/1.1\r\nA: b\r\n", "GET https://example.com@evil.test/\n", "\n\n", "GET https://EXAMPLE.com.:443/\nHost: example.com\n"} {
		f.Add([]byte(seed))
	}
	client, err := egress.NewClient(egress.Network{}, []string{"example.com:443"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = client.Close() })
	f.Fuzz(func(t *testing.T, head []byte) {
		fetches := client.Fetches(t.Context())
		h, err := openFetch(fetches, head)
		if (h == 1) == (err != nil) {
			t.Fatalf("handle %d, error %v", h, err)
		}
		if _, known := err.(*egress.Error); err != nil && !known {
			t.Fatalf("an error without a number: %v", err)
		}
		if err == nil && !bytes.Contains(bytes.ToLower(head), []byte("example.com")) {
			t.Fatalf("opened %q", head)
		}
	})
}

// A fetch ends with the request that it is part of: at its deadline, and when its client leaves.
func TestAFetchEndsWithItsRequest(t *testing.T) {
	arrived, left := make(chan struct{}), make(chan struct{})
	d, _ := newReachingDriver(t, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
	})
	spec := moduleSpec("fetch", api.ModeHTTP)
	spec.Egress, spec.Wasm.Timeout = []string{"example.com:443"}, api.Duration(200*time.Millisecond)
	server, _, _ := serve(t, d, spec)
	ask := func(ctx context.Context) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, strings.NewReader("GET https://example.com/\n"))
		if err != nil {
			t.Fatal(err)
		}
		return http.DefaultTransport.RoundTrip(req)
	}
	done := make(chan int, 1)
	go func() {
		resp, err := ask(context.Background())
		if err != nil {
			done <- 0
			return
		}
		done <- resp.StatusCode
		_ = resp.Body.Close()
	}()
	<-arrived
	<-left
	if status := <-done; status != http.StatusGatewayTimeout {
		t.Errorf("status %d", status)
	}

	spec = moduleSpec("fetch", api.ModeHTTP)
	spec.Egress = []string{"example.com:443"}
	server, _, _ = serve(t, d, spec)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		if resp, err := ask(ctx); err == nil {
			_ = resp.Body.Close()
		}
		done <- 0
	}()
	<-arrived
	cancel()
	<-left
	<-done
}
