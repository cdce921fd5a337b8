package wasm

import (
	"encoding/binary"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

func TestHostileFlood(t *testing.T) {
	newYard(t).run(t, []attack{
		{name: "flood-stdout", end: dammed},
		{name: "flood-stderr", end: dammed},
		{name: "flood-log", end: dammed},
		{name: "flood-lines", end: dammed},
		{name: "flood-cgi", end: deaf},
		{name: "flood-body", end: left},
		{name: "flood-flush", end: left},
		{name: "job-flood", end: stopped},
		{name: "listener-silent", end: overdue},
		{name: "listener-hangup", end: answers(http.StatusBadGateway, "EOF")},
		{name: "listener-garbage", end: answers(http.StatusBadGateway, "malformed")},
		{name: "listener-endless", end: answers(http.StatusBadGateway, "exceeded")},
		{name: "heads", end: headsAreChecked},
		{name: "cgi", end: cgiHeadsAreChecked},
	})
}

// dammed: whatever a guest says, the log takes its rate, and tells that the rest was dropped.
func dammed(t *testing.T, y *yard, spec sandbox.Spec) {
	spec.Wasm.Timeout = api.Duration(hogTimeout)
	server, h, log := serve(t, y.Driver, spec)
	if status, _ := get(t, server.URL); status != http.StatusGatewayTimeout {
		t.Errorf("status %d", status)
	}
	if err := h.Stop(t.Context(), 0); err != nil { // it closes the log
		t.Fatal(err)
	}
	dropped := strings.Contains(log.String(), "bytes of output were dropped")
	// The log takes a second's bytes at once, and more as time goes by.
	if text := log.String(); len(text) > 3*api.DefaultLogBytesPerSec || !dropped && len(text) > 2*api.DefaultLogBytesPerSec {
		t.Errorf("the log has %d bytes, which end in %.200q", len(text), text[max(0, len(text)-200):])
	}
}

// deaf: a guest that goes on though its head was refused runs until its deadline, and is told of as what it is.
func deaf(t *testing.T, y *yard, spec sandbox.Spec) {
	spec.Wasm.Timeout = api.Duration(hogTimeout)
	answers(http.StatusBadGateway, "no empty line in the first 32768 bytes")(t, y, spec)
}

// left: a guest that would answer for ever ends once its client is gone.
func left(t *testing.T, y *yard, spec sandbox.Spec) {
	server, h, _ := serve(t, y.Driver, spec)
	resp, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if spec.Artifact == "testdata/hostile/flood-body.wasm" {
		if _, err := io.CopyN(io.Discard, resp.Body, 32<<20); err != nil {
			t.Error(err)
		}
	}
	_ = resp.Body.Close()
	eventually(t, "the end of the request", func() bool { return inFlight(h) == 0 })
}

// stopped: a program ends when its replica is stopped.
func stopped(t *testing.T, y *yard, spec sandbox.Spec) {
	spec.Wasm.Mode, spec.Wasm.Timeout = api.ModeService, 0
	h, log := start(t, y.Driver, spec)
	eventually(t, "output", func() bool { return log.String() != "" })
	if err := h.Stop(t.Context(), 0); err != nil || h.Exit().Code != codeForced {
		t.Errorf("Stop: %v, exit %+v", err, h.Exit())
	}
}

// headCases are response heads, and whether a guest may have them.
var headCases = map[string]bool{
	"":                                       true,
	"a: b\r\nc: d":                           true,
	"a:\n":                                   true,
	"a: \xff\n":                              true,
	"content-length: 1":                      true,
	"connection: close\nte: x\n":             true, // and left out
	"transfer-encoding: chunked\n":           true,
	"a\x00: b":                               false,
	"a: \x00":                                false,
	"a: b\rset-cookie: c":                    false,
	" a: b":                                  false,
	"a: b\n c: d":                            false,
	"a b: c":                                 false,
	": b":                                    false,
	"a":                                      false,
	"a: b\n\x80: c":                          false,
	"content-length: -1":                     false,
	"content-length: +1":                     false,
	"content-length: 0x1":                    false,
	"content-length: 1, 1":                   false,
	"content-length:":                        false,
	"content-length: 1\nContent-Length: 2":   false,
	"content-length: 9223372036854775808":    false,
	"a: " + strings.Repeat("x", 32<<10-3):    true,
	"a: " + strings.Repeat("x", 32<<10-2):    false,
	strings.Repeat("a:\n", (32<<10)/3+1):     false,
	strings.Repeat("a: b\r\n", (32<<10)/6-1): true,
	"trailer: x\nupgrade: y\nkeep-alive: z\n": true,
}

func headsAreChecked(t *testing.T, y *yard, spec sandbox.Spec) {
	server, _, _ := serve(t, y.Driver, spec)
	ask := func(status uint32, head string) (*http.Response, byte) {
		resp, body, err := fetch(t, http.MethodPost, server.URL, string(binary.LittleEndian.AppendUint32(nil, status))+head)
		if err != nil || len(body) != 1 {
			t.Fatalf("status %d, head %.60q: %q, %v", status, head, body, err)
		}
		return resp, body[0]
	}
	for head, good := range headCases {
		resp, errno := ask(http.StatusTeapot, head)
		if good != (errno == errnoOK) || good != (resp.StatusCode == http.StatusTeapot) {
			t.Errorf("head %.60q: errno %d, status %d", head, errno, resp.StatusCode)
		}
		for name := range resp.Header {
			if slices.Contains([]string{"Connection", "Te", "Transfer-Encoding", "Trailer", "Upgrade", "Keep-Alive", "Set-Cookie"}, name) {
				t.Errorf("head %.60q: the client gets %s", head, name)
			}
		}
	}
	for _, status := range []uint32{0, 1, 99, 100, 101, 199, 600, 1 << 31, 1<<32 - 1, 1<<16 + 200} {
		if resp, errno := ask(status, ""); errno != errnoInvalid || resp.StatusCode != http.StatusOK {
			t.Errorf("status %d: errno %d, status %d", status, errno, resp.StatusCode)
		}
	}
}

func cgiHeadsAreChecked(t *testing.T, y *yard, spec sandbox.Spec) {
	server, _, _ := serve(t, y.Driver, spec)
	cases := map[string]int{
		"":                          http.StatusBadGateway,
		"\n\n":                      http.StatusBadGateway,
		"a: b":                      http.StatusBadGateway,
		"a: b\n\nbody":              http.StatusOK,
		"Status: 299\n\n":           299,
		"Status: 299 Fine\r\n\r\n":  299,
		"Status: 100\n\n":           http.StatusBadGateway,
		"Status: 600\n\n":           http.StatusBadGateway,
		"Status: -200\n\n":          http.StatusBadGateway,
		"Status: 2e2\n\n":           http.StatusBadGateway,
		"Location: /x\n\n":          http.StatusFound,
		strings.Repeat("x", 40<<10): http.StatusBadGateway,
	}
	for head, good := range headCases {
		if head != "" && !strings.Contains(head, "content-length: 1") && len(head) < 32<<10-3 {
			cases[strings.TrimRight(head, "\r\n")+"\n\n"] = map[bool]int{true: http.StatusOK, false: http.StatusBadGateway}[good]
		}
	}
	for text, want := range cases {
		if resp, _, err := fetch(t, http.MethodPost, server.URL, text); err != nil || resp.StatusCode != want {
			t.Errorf("%.60q: %v, %v, want status %d", text, resp, err, want)
		}
	}
}
