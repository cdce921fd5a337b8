package wasm

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cloudless/cloudless/api"
)

// wire is a connection to a guest that a test plays.
type wire struct{ net.Conn }

func (w *wire) CloseWrite() error { return nil }
func (w *wire) Quiet() bool       { return true }

// played are links to a guest that answers on its first connection with these texts, each after a request, and
// on each further one with fine. Then it waits for the end of the connection.
func played(t *testing.T, answers ...string) *links {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	s := newLinks(func(context.Context) (guestConn, error) {
		here, there := net.Pipe()
		accepted <- there
		return &wire{here}, nil
	})
	go func() {
		for c := range accepted {
			play(t, c, answers)
			answers = []string{fine}
		}
	}()
	t.Cleanup(func() { s.close(); close(accepted) })
	return &s
}

func play(t *testing.T, c net.Conn, answers []string) {
	defer c.Close()
	r := bufio.NewReader(c)
	for _, answer := range answers {
		req, err := http.ReadRequest(r)
		if err != nil {
			t.Errorf("the guest reads: %v", err)
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			t.Errorf("the guest reads a body: %v", err)
		}
		if _, err := io.WriteString(c, answer); err != nil { // the host has heard enough
			return
		}
	}
	if answers[len(answers)-1] != hangUp {
		_, _ = r.ReadByte() // until the host ends it
	}
}

const (
	fine   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	hangUp = ""
)

func askOn(t *testing.T, s *links, method, body string) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://guest/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.ask(t.Context(), r, func() {})
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// TestALinkIsUsedAgainWhenAllWasSaidOnIt: else, or after a minute, it is ended.
func TestALinkIsUsedAgainWhenAllWasSaidOnIt(t *testing.T) {
	for name, test := range map[string]struct {
		answers []string
		again   bool
	}{
		"whole":      {[]string{fine, fine}, true},
		"chunked":    {[]string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", fine}, true},
		"informed":   {[]string{strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", maxInformed) + fine, fine}, true},
		"its last":   {[]string{"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"}, false},
		"one of 1.0": {[]string{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"}, false},
		"too much":   {[]string{fine + "HTTP/1.1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := played(t, test.answers...)
				for range 2 {
					if text, err := askOn(t, s, "GET", ""); err != nil || text != "ok" {
						t.Fatalf("%q, %v", text, err)
					}
				}
				if again := len(s.idle) == 1 && s.idle[0].another; again != test.again {
					t.Errorf("used again: %t", again)
				}
				s.trim(linkIdle)
				if len(s.idle) != 1 {
					t.Errorf("%d are idle at once", len(s.idle))
				}
				s.idle[0].used -= linkIdle
				s.trim(linkIdle)
				if len(s.idle) != 0 || len(s.slots) != 0 {
					t.Errorf("%d are idle after a minute, %d in use", len(s.idle), len(s.slots))
				}
			})
		})
	}
}

// TestALinkThatTheGuestHasEndedIsNoFailure: a request is sent once more where that does no harm.
func TestALinkThatTheGuestHasEndedIsNoFailure(t *testing.T) {
	for method, again := range map[string]bool{"GET": true, "HEAD": true, "OPTIONS": true, "DELETE": false, "POST": false} {
		synctest.Test(t, func(t *testing.T) {
			s := played(t, fine, hangUp) // it takes the second request, and says nothing
			if _, err := askOn(t, s, "GET", ""); err != nil {
				t.Fatal(err)
			}
			if _, err := askOn(t, s, method, ""); (err == nil) != again || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %v", method, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		if _, err := askOn(t, played(t, hangUp), "GET", ""); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("of a new connection: %v", err)
		}
	})
}

// TestAnAnswersHeadIsBounded in bytes, and in how many of status 1xx come before it.
func TestAnAnswersHeadIsBounded(t *testing.T) {
	const frame = len("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: \r\n\r\n")
	long := func(n int) string {
		return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: " + strings.Repeat("x", n-frame) + "\r\n\r\nok"
	}
	for answer, want := range map[string]error{
		long(api.MaxHeaderBytes - 1):                                  nil,
		long(api.MaxHeaderBytes):                                      nil,
		long(api.MaxHeaderBytes + 1):                                  errAnswerHead,
		strings.Repeat("HTTP/1.1 102 \r\n\r\n", maxInformed) + fine:   nil,
		strings.Repeat("HTTP/1.1 102 \r\n\r\n", maxInformed+1) + fine: errInformed,
	} {
		synctest.Test(t, func(t *testing.T) {
			if text, err := askOn(t, played(t, answer), "POST", "a body"); !errors.Is(err, want) || err == nil && text != "ok" {
				t.Errorf("a head of %d bytes: %q, %v, want %v", len(answer), text, err, want)
			}
		})
	}
}

// roundTrip is an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestAnUpgradedLinkSpeaksOn in whatever both sides have agreed on, and is not used for another request.
func TestAnUpgradedLinkSpeaksOn(t *testing.T) {
	here, there := net.Pipe()
	s := newLinks(func(context.Context) (guestConn, error) { return &wire{here}, nil })
	defer s.close()
	over := make(chan struct{})
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host = "http", "guest" },
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) { return s.ask(r.Context(), r, func() { close(over) }) }),
	})
	defer server.Close()
	client, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	heard := make(chan error, 1)
	go func() { // the guest
		r := bufio.NewReader(there)
		_, err := http.ReadRequest(r)
		if err == nil {
			_, err = io.WriteString(there, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nwelcome ")
		}
		if err == nil {
			_, err = io.CopyN(there, r, 4)
		}
		heard <- err
	}()
	if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(client)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res, err)
	}
	if _, err := io.WriteString(client, "ping"); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, len("welcome ping"))
	if _, err := io.ReadFull(r, text); err != nil || string(text) != "welcome ping" {
		t.Errorf("%q, %v", text, err)
	}
	if err := <-heard; err != nil {
		t.Error(err)
	}
	_ = client.Close()
	_ = there.Close()
	<-over
	if len(s.idle) != 0 || len(s.slots) != 0 {
		t.Errorf("%d links are idle, %d in use", len(s.idle), len(s.slots))
	}
}
