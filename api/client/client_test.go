package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func open(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

const dead = "http://127.0.0.1:1"

func noLeader(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusServiceUnavailable)
	json.NewEncoder(w).Encode(api.ErrorBody{Error: api.Errorf(api.CodeUnavailable, "no leader")})
}

func TestGoesOnToTheNextAddressAndRemembersIt(t *testing.T) {
	var without, with atomic.Int32
	a := serve(t, func(w http.ResponseWriter, r *http.Request) { without.Add(1); noLeader(w, r) })
	b := serve(t, func(w http.ResponseWriter, r *http.Request) {
		with.Add(1)
		json.NewEncoder(w).Encode(api.ClusterStatus{Leader: "b"})
	})
	c := open(t, Config{Addresses: []string{dead, a, b}})
	for range 3 {
		if st, err := c.Status(t.Context(), 0, 0); err != nil || st.Leader != "b" {
			t.Fatal(err, st.Leader)
		}
	}
	if without.Load() != 1 || with.Load() != 3 {
		t.Errorf("the address without a leader was asked %d times, the good one %d times", without.Load(), with.Load())
	}
}

// TestAnAddressWithABadCertificateIsLeft: a coordinator whose clock is off, or a stranger at its address,
// keeps nobody from the others; alone, it is told at once.
func TestAnAddressWithABadCertificateIsLeft(t *testing.T) {
	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(stranger.Close)
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	good := serve(t, func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(api.ClusterStatus{Leader: "b"})
	})
	if st, err := open(t, Config{Addresses: []string{stranger.URL, good}}).Status(t.Context(), 0, 0); err != nil || st.Leader != "b" {
		t.Errorf("with another address: %v, leader %q", err, st.Leader)
	}
	if _, err := open(t, Config{Addresses: []string{stranger.URL, stranger.URL}}).Status(t.Context(), 0, 0); err == nil || !strings.Contains(err.Error(), "--ca-cert") {
		t.Errorf("alone: %v", err)
	}
}

func TestSilentAddressIsLeft(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	a := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	b := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(api.ClusterStatus{Leader: "b"})
	})
	c := open(t, Config{Addresses: []string{a, b}, RequestTimeout: 50 * time.Millisecond})
	if st, err := c.Status(t.Context(), 0, 0); err != nil || st.Leader != "b" {
		t.Error(err, st.Leader)
	}
}

// A write that meets no leader is repeated with the same key and the same body until there is one.
func TestWriteIsRepeatedWithItsKey(t *testing.T) {
	var seen []string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen = append(seen, r.Header.Get("Idempotency-Key")+r.Header.Get("X-Request-ID")+string(body))
		if len(seen) < 4 {
			noLeader(w, r)
			return
		}
		json.NewEncoder(w).Encode(api.WriteResult{Outcome: "scaled"})
	})
	res, err := open(t, Config{Addresses: []string{url}}).Scale(t.Context(), api.Ref{Namespace: "d", Name: "w"}, 3, 0)
	if err != nil || res.Outcome != "scaled" {
		t.Fatal(err)
	}
	for _, s := range seen {
		if s != seen[0] || !strings.HasPrefix(s, "k-") || !strings.Contains(s, `{"replicas":3}`) {
			t.Errorf("requests differ: %q", seen)
		}
	}
}

func TestUnreachableNamesEveryAddress(t *testing.T) {
	_, err := open(t, Config{Addresses: []string{dead, "http://127.0.0.1:2"}}).Status(t.Context(), 0, 0)
	if api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "127.0.0.1:1: connection refused; 127.0.0.1:2: connection refused") {
		t.Errorf("%v", err)
	}
	busy := serve(t, noLeader)
	_, err = open(t, Config{Addresses: []string{busy}, RetryFor: 200 * time.Millisecond}).Status(t.Context(), 0, 0)
	if api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "no leader") {
		t.Errorf("%v", err)
	}
}

func TestErrorsAreTheServers(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		status     int
		code       api.Code
		request    string
	}{
		{"envelope", `{"error":{"code":"conflict","message":"changed","hint":"read again","request_id":"r-1"}}`, 409, api.CodeConflict, "r-1"},
		{"envelope without id", `{"error":{"code":"no_room","message":"full"}}`, 507, api.CodeNoRoom, "r-head"},
		{"a proxy's page", "<html>", 404, api.CodeNotFound, "r-head"},
		{"a redirect is not followed", "", 307, api.CodeInvalid, "r-head"},
		{"an unknown status", "", 502, api.CodeUnavailable, "r-head"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Request-ID", "r-head")
				w.Header().Set("Location", dead)
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			})
			_, err := open(t, Config{Addresses: []string{url}}).Nodes(t.Context(), api.ListQuery{})
			var ae *api.Error
			if !errors.As(err, &ae) || ae.Code != tt.code || ae.RequestID != tt.request {
				t.Errorf("%+v", ae)
			}
		})
	}
}

func TestHeadersAndPaths(t *testing.T) {
	var got *http.Request
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { got = r; io.WriteString(w, "{}") })
	c := open(t, Config{Addresses: []string{url}, Token: "secret", UserAgent: "test/1", Traceparent: "00-base", CorrelationID: "c-1"})
	ctx, ids := t.Context(), map[string]bool{}
	ref := api.Ref{Namespace: "n", Name: "w"}
	for want, call := range map[string]func() error{
		"PUT /v1/workloads/n/w": func() error {
			_, err := c.ApplyWorkload(ctx, api.Workload{Metadata: api.Metadata{Namespace: "n", Name: "w"}}, 7)
			return err
		},
		"POST /v1/workloads:plan":                       func() error { _, err := c.Plan(ctx, api.Workload{}); return err },
		"GET /v1/workloads/n/w/settled?index=4&wait=1s": func() error { _, err := c.Settled(ctx, ref, 4, time.Second); return err },
		"DELETE /v1/workloads/n/w":                      func() error { _, err := c.DeleteWorkload(ctx, ref, 0); return err },
		"POST /v1/nodes/a%2Fb/drain":                    func() error { _, err := c.Drain(ctx, "a/b", api.DrainRequest{}); return err },
		"GET /v1/workloads?cursor=x&label=a%3Db&limit=5&namespace=n": func() error {
			_, err := c.Workloads(ctx, api.ListQuery{Namespace: "n", Label: map[string]string{"a": "b"}, Limit: 5, Cursor: "x"})
			return err
		},
		"GET /v1/nodes": func() error { _, err := c.Nodes(ctx, api.ListQuery{}); return err },
	} {
		if err := call(); err != nil {
			t.Error(want, err)
		}
		if line := got.Method + " " + got.RequestURI; line != want {
			t.Errorf("sent %s, want %s", line, want)
		}
		h := []string{got.Header.Get("Authorization"), got.UserAgent(), got.Header.Get("Traceparent"), got.Header.Get("X-Correlation-ID")}
		if d := cmp.Diff([]string{"Bearer secret", "test/1", "00-base", "c-1"}, h); d != "" {
			t.Error(d)
		}
		if id := got.Header.Get("X-Request-ID"); id == "" || ids[id] {
			t.Errorf("%s: X-Request-ID %q is missing or another request's", want, id)
		} else {
			ids[id] = true
		}
		if write := got.Method != "GET"; write != (got.Header.Get("Idempotency-Key") != "") {
			t.Errorf("%s: Idempotency-Key %q", want, got.Header.Get("Idempotency-Key"))
		}
	}
}

func TestPagesFollowsCursors(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		next := map[string]string{"": "a", "a": "b"}[r.URL.Query().Get("cursor")]
		json.NewEncoder(w).Encode(api.List[api.Token]{Items: []api.Token{{ID: "after " + r.URL.Query().Get("cursor")}}, Index: 9, Cursor: next})
	})
	c := open(t, Config{Addresses: []string{url}})
	all, err := Pages(api.ListQuery{}, func(q api.ListQuery) (api.List[api.Token], error) { return c.Tokens(t.Context(), q) })
	if err != nil || len(all.Items) != 3 || all.Items[2].ID != "after b" || all.Cursor != "" || all.Index != 9 {
		t.Errorf("%v %+v", err, all)
	}
}

// A small artifact whose first address fails is sent whole to the next.
func TestPutArtifactReopensItsSource(t *testing.T) {
	data := bytes.Repeat([]byte("c"), wholeArtifact)
	a := serve(t, func(w http.ResponseWriter, r *http.Request) { io.CopyN(io.Discard, r.Body, 1000); noLeader(w, r) })
	var got []byte
	b := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		got, _ = io.ReadAll(r.Body)
		json.NewEncoder(w).Encode(api.Artifact{Digest: "sha256:x", Kind: r.URL.Query().Get("kind")})
	})
	opened := 0
	c := open(t, Config{Addresses: []string{a, b}})
	art, err := c.PutArtifact(t.Context(), "sha256:x", api.ArtifactWasm, int64(len(data)), func() (io.ReadCloser, error) {
		opened++
		return io.NopCloser(bytes.NewReader(data)), nil
	})
	if err != nil || art.Kind != api.ArtifactWasm || !bytes.Equal(got, data) || opened != 2 {
		t.Errorf("%v, kind %s, %d bytes, opened %d times", err, art.Kind, len(got), opened)
	}
	if has, err := c.HasArtifact(t.Context(), "sha256:y"); has || err != nil {
		t.Error(has, err)
	}
}

// A stream of events that breaks goes on after the last event seen.
func TestFollowEventsResumes(t *testing.T) {
	var after []string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		after = append(after, r.Header.Get("Last-Event-ID"))
		n := len(after)
		fmt.Fprintf(w, ": hello\n\nid: %d\nevent: x\ndata: {\"id\":\"%d\",\ndata: \"type\":\"node.ready\"}\n\n", n, n)
	})
	var got []string
	stop := errors.New("enough")
	err := open(t, Config{Addresses: []string{url}}).FollowEvents(t.Context(), api.EventQuery{Type: "node"}, func(e api.Event) error {
		if got = append(got, e.ID+e.Type); len(got) == 3 {
			return stop
		}
		return nil
	})
	if err != stop {
		t.Error(err)
	}
	if d := cmp.Diff([]string{"1node.ready", "2node.ready", "3node.ready"}, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"", "1", "2"}, after); d != "" {
		t.Error(d)
	}
}

// Nodes' own events have no place in the log to go on from: after one, the place before it counts.
func TestFollowEventsGoesOnAfterANodesOwn(t *testing.T) {
	var after []string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		after = append(after, r.Header.Get("Last-Event-ID"))
		if len(after) == 2 {
			fmt.Fprint(w, "id: 7\ndata: {\"id\":\"7\"}\n\n")
		}
		fmt.Fprint(w, "data: {\"id\":\"edge/1\"}\n\n")
	})
	stop, n := errors.New("enough"), 0
	err := open(t, Config{Addresses: []string{url}}).FollowEvents(t.Context(), api.EventQuery{}, func(api.Event) error {
		if n++; n == 4 {
			return stop
		}
		return nil
	})
	if err != stop {
		t.Error(err)
	}
	if d := cmp.Diff([]string{"", "", "7"}, after); d != "" {
		t.Error(d)
	}
}

func TestACreatedTokenWithoutItsSecretIsAnError(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"t-1","role":"node"}`) })
	if _, err := open(t, Config{Addresses: []string{url}}).CreateToken(t.Context(), api.TokenRequest{}); api.CodeOf(err) != api.CodeUnavailable {
		t.Error(err)
	}
}

func TestFollowEventsEndsOnRefusalAndCancel(t *testing.T) {
	if err := open(t, Config{Addresses: []string{dead}}).FollowEvents(t.Context(), api.EventQuery{}, nil); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("nobody was ever there: %v", err)
	}
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	err := open(t, Config{Addresses: []string{url}}).FollowEvents(t.Context(), api.EventQuery{}, nil)
	if api.CodeOf(err) != api.CodeForbidden {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	quiet := serve(t, func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); cancel(); <-r.Context().Done() })
	if err := open(t, Config{Addresses: []string{quiet}}).FollowEvents(ctx, api.EventQuery{}, nil); ctx.Err() == nil {
		t.Error(err)
	}
}

func TestExecCarriesStreamsAndExitCode(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		say := func(kind byte, text string) {
			conn.Write(r.Context(), websocket.MessageBinary, append([]byte{kind}, text...))
		}
		say(api.ExecStderr, strings.Join(q["cmd"], "|")+q.Get("stdin")+r.Header.Get("Authorization"))
		for {
			_, m, err := conn.Read(r.Context())
			if err != nil {
				return
			}
			switch m[0] {
			case api.ExecStdin:
				say(api.ExecStdout, strings.ToUpper(string(m[1:])))
			case api.ExecEOF:
				say(api.ExecExit, `{"code":7}`)
				return
			}
		}
	})
	c := open(t, Config{Addresses: []string{dead, url}, Token: "s"})
	s, err := c.Exec(t.Context(), api.Ref{Namespace: "d", Name: "w"}, ExecOptions{Command: []string{"a", "b c"}, Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.SendFrom(t.Context(), strings.NewReader("hello")); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	code, err := s.ReceiveTo(t.Context(), &stdout, &stderr)
	if err != nil || code != 7 || stdout.String() != "HELLO" || stderr.String() != "a|b ctrueBearer s" {
		t.Errorf("%v code %d out %q err %q", err, code, stdout.String(), stderr.String())
	}
}

func TestExecRefusalIsTheServers(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(api.ErrorBody{Error: api.Errorf(api.CodeUnsupported, "a wasm replica has no processes")})
	})
	_, err := open(t, Config{Addresses: []string{url}}).Exec(t.Context(), api.Ref{Namespace: "d", Name: "w"}, ExecOptions{Command: []string{"ls"}})
	if api.CodeOf(err) != api.CodeUnsupported || !strings.Contains(err.Error(), "no processes") {
		t.Error(err)
	}
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for _, a := range []string{"", "host:7700", "ftp://x", "http://", "http://u:p@h"} {
		if _, err := New(Config{Addresses: []string{a}}); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%q: %v", a, err)
		}
	}
}

func FuzzEventStream(f *testing.F) {
	f.Add([]byte("id: 1\ndata: {\"id\":\"1\"}\n\n: c\n\n"))
	f.Add([]byte("data\n\ndata:\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &eventStream{each: func(api.Event) error { return nil }}
		if err := s.read(bytes.NewReader(data), func() {}); err != nil && api.CodeOf(err) != api.CodeUnavailable {
			t.Error(err)
		}
	})
}
