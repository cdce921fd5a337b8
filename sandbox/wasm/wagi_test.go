package wasm

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

func TestWAGI(t *testing.T) {
	server, _, _ := serve(t, newDriver(t), moduleSpec("wagi", api.ModeHTTP))
	for range 2 { // each request has a fresh instance
		resp, body, err := fetch(t, http.MethodPost, server.URL, "and more")
		if err != nil || resp.StatusCode != 202 || resp.Header.Get("X-A") != "b" || resp.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("got %v, error %v", resp, err)
		}
		if body != "hello\nand more" {
			t.Errorf("body %q", body)
		}
	}
}

func TestWAGIEnvironment(t *testing.T) {
	spec := moduleSpec("wagienv", api.ModeHTTP)
	spec.Env = map[string]string{"GREETING": "hi", "HTTP_X_OURS": "manifest", "PATH_INFO": "overridden"}
	h, _ := start(t, newDriver(t), spec)
	r := httptest.NewRequest(http.MethodPost, "https://hello.localhost:7780/a%20b?q=1", strings.NewReader("body"))
	r.Header = http.Header{
		"Content-Type": {"text/plain"}, "Proxy": {"http://evil.example"}, "X-Ours": {"client"}, "X-Two": {"1", "2"},
		"X-Cloudless-Remote-Addr": {"192.0.2.7:55"}, "X_cloudless_remote_addr": {"127.0.0.1:1"}, "X_under": {"score"},
	}
	r.TLS = &tls.ConnectionState{}
	w := httptest.NewRecorder()
	h.Endpoint().Handler.ServeHTTP(w, r)
	got := map[string]string{}
	for pair := range strings.SplitSeq(strings.TrimSuffix(w.Body.String(), "\x00"), "\x00") {
		name, value, _ := strings.Cut(pair, "=")
		if _, twice := got[name]; twice { // programs take the first, others the last
			t.Errorf("%s is there twice", name)
		}
		got[name] = value
	}
	want := map[string]string{
		"GREETING": "hi", "HTTP_X_OURS": "manifest", "HTTP_X_TWO": "1, 2", "HTTP_HOST": "hello.localhost:7780",
		"HTTP_X_CLOUDLESS_REMOTE_ADDR": "192.0.2.7:55", "REQUEST_METHOD": "POST", "PATH_INFO": "/a b",
		"X_RAW_PATH_INFO": "/a%20b", "QUERY_STRING": "q=1", "CONTENT_LENGTH": "4", "CONTENT_TYPE": "text/plain",
		"SERVER_NAME": "hello.localhost", "SERVER_PORT": "7780", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "cloudless",
		"GATEWAY_INTERFACE": "CGI/1.1", "SCRIPT_NAME": "", "REMOTE_ADDR": "192.0.2.7",
		"X_FULL_URL": "https://hello.localhost:7780/a%20b?q=1", "X_MATCHED_ROUTE": "/...",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestWAGIFailures(t *testing.T) {
	d := newDriver(t)
	for module, reason := range map[string]string{
		"spin":  "longer than its timeout",
		"hog":   "trap: unreachable in .grow()",
		"env":   "not a header field", // what it prints is no head
		"exit":  "exited with code 3",
		"quiet": "without a CGI head",
	} {
		name, arg := module, "3"
		if module == "quiet" {
			name, arg = "exit", "0"
		}
		spec := moduleSpec(name, api.ModeHTTP, arg)
		spec.Env = map[string]string{"A": "B\n\n"}
		want := http.StatusBadGateway
		if module == "spin" {
			spec.Wasm.Timeout, want = api.Duration(100*time.Millisecond), http.StatusGatewayTimeout
		}
		server, _, log := serve(t, d, spec)
		if status, _ := get(t, server.URL); status != want {
			t.Errorf("%s: status %d, want %d", module, status, want)
		}
		if !strings.Contains(log.String(), reason) {
			t.Errorf("%s: the log is %q, want %q", module, log, reason)
		}
	}
}

func TestParseCGI(t *testing.T) {
	tests := []struct {
		head   string
		status int
		header http.Header
	}{
		{"Content-Type: text/plain\n", 200, http.Header{"Content-Type": {"text/plain"}}},
		{"Status: 404 Not Found\r\n", 404, http.Header{}},
		{"Location: /there\nSet-Cookie: a=1\nSet-Cookie: b=2\n", 302, http.Header{"Location": {"/there"}, "Set-Cookie": {"a=1", "b=2"}}},
		{"status:201\nLocation: /x\nConnection: close\n", 201, http.Header{"Location": {"/x"}}},
		{"", 0, nil},
		{"no colon\n", 0, nil},
		{"Status: fine\n", 0, nil},
		{"Status: 101\n", 0, nil},
		{"Bad Name: x\n", 0, nil},
		{"X: a\x00b\n", 0, nil},
		{"X: " + strings.Repeat("y", api.MaxHeaderBytes) + "\n", 0, nil},
	}
	for _, test := range tests {
		status, header, err := parseCGI([]byte(test.head))
		if diff := cmp.Diff(test.header, header); diff != "" || status != test.status || (err != nil) != (test.status == 0) {
			t.Errorf("%.40q: status %d, error %v, header (-want +got):\n%s", test.head, status, err, diff)
		}
		if err != nil && !errors.Is(err, errHead) {
			t.Errorf("%.40q: error %v is no errHead", test.head, err)
		}
	}
}

// FuzzCGIHead: however a guest's output is cut into writes, the answer is the same, and never a head
// that net/http would refuse.
func FuzzCGIHead(f *testing.F) {
	f.Add("Content-Type: text/plain\r\n\r\nbody", 3)
	f.Add("Status: 302\nLocation: /x\n\n", 1)
	f.Add("\n\n", 1)
	f.Add("Status: 099\n\n", 5)
	f.Fuzz(func(t *testing.T, output string, cut int) {
		whole, pieces := httptest.NewRecorder(), httptest.NewRecorder()
		errWhole := feed(whole, output, len(output))
		errPieces := feed(pieces, output, max(1, cut))
		if (errWhole == nil) != (errPieces == nil) && len(output) <= api.MaxHeaderBytes {
			t.Fatalf("in one piece: %v; in pieces of %d: %v", errWhole, cut, errPieces)
		}
		if errWhole == nil && errPieces == nil && (whole.Code != pieces.Code || whole.Body.String() != pieces.Body.String()) {
			t.Fatalf("in one piece: %d %q; in pieces of %d: %d %q", whole.Code, whole.Body, cut, pieces.Code, pieces.Body)
		}
	})
}

// newTestExchange is a request that no instance handles.
func newTestExchange(w http.ResponseWriter) *exchange {
	x := newExchange(context.Background(), w, httptest.NewRequest(http.MethodGet, "/", nil), api.DefaultHTTPTimeout)
	x.clock = &stopwatch{meter: &meter{}, since: sinceEpoch()}
	return x
}

// feed writes output to a CGI response in pieces of n bytes.
func feed(w http.ResponseWriter, output string, n int) error {
	x := newTestExchange(w)
	defer x.close()
	c := &cgiResponse{x: x}
	for len(output) > 0 {
		n = min(n, len(output))
		if _, err := c.Write([]byte(output[:n])); err != nil {
			return err
		}
		output = output[n:]
	}
	return nil
}

// FuzzResponseHead: whatever a guest gives to resp_head, it gets an errno or a response.
func FuzzResponseHead(f *testing.F) {
	f.Add(200, "content-type: text/plain\n")
	f.Add(-1, "a: b\r\nc: d")
	f.Add(599, ":\n")
	f.Fuzz(func(t *testing.T, status int, text string) {
		w := httptest.NewRecorder()
		x := newTestExchange(w)
		defer x.close()
		switch answerHead(x, status, []byte(text)) {
		case errnoOK:
			if w.Code != status || !x.sent() {
				t.Errorf("status %d was sent as %d", status, w.Code)
			}
		case errnoInvalid:
			if x.sent() {
				t.Error("a refused head was sent")
			}
		default:
			t.Error("a first head was told to be a second one")
		}
	})
}

// FuzzRequestHead: one line for each field, whatever a client sends.
func FuzzRequestHead(f *testing.F) {
	f.Add("GET", "/a?b", "hello.localhost", "X-A", "value")
	f.Add("POST", "/\n", "h\r\nx: y", "Bad Name", "a\nb: c")
	f.Add("GET", "*", "", "Content-Length", "7")
	f.Fuzz(func(t *testing.T, method, path, host, name, value string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path, r.Host = path, host
		r.Header[http.CanonicalHeaderKey(name)] = []string{value}
		h := &heads{}
		h.format(r)
		head := string(h.text)
		first, rest, _ := strings.Cut(head, "\n")
		if !strings.HasPrefix(first, "GET ") || strings.Contains(first, "\r") {
			t.Fatalf("the first line is %q", first)
		}
		for line := range strings.Lines(rest) {
			field, _, ok := strings.Cut(line, ": ")
			if !ok || field != strings.ToLower(field) || strings.ContainsAny(field, " \r") || !strings.HasSuffix(line, "\n") {
				t.Fatalf("%q is no line of a head", line)
			}
		}
	})
}

// TestAnExitDeepDownCostsTheNextRequestNothing: the calls that it leaves behind do not count against the
// stack of the next.
func TestAnExitDeepDownCostsTheNextRequestNothing(t *testing.T) {
	server, _, log := serve(t, newDriver(t), moduleSpec("exits-deep", api.ModeHTTP))
	for n := range 20 { // the stack has room for some 200,000 such calls
		if status, body := get(t, server.URL+"/"); status != 200 || body != "deep" {
			t.Fatalf("request %d: status %d, %q; the log is %s", n, status, body, log)
		}
	}
}
