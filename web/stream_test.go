package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudless/cloudless/api"
)

func TestBlockingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := newTest(t)
		start := time.Now()
		if ask(s, api.RoleViewer, http.MethodGet, "/v1/workloads?index=4&wait=10s", ""); time.Since(start) != 0 {
			t.Error("it waited though the state is past the index")
		}
		rec := ask(s, api.RoleViewer, http.MethodGet, "/v1/workloads?index=5&wait=10s", "")
		wantStatus(t, rec, 200)
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("without a change it took %s", took)
		}
		done := make(chan *httptest.ResponseRecorder)
		start = time.Now()
		go func() { done <- ask(s, api.RoleViewer, http.MethodGet, hello+"?index=5", "") }()
		time.Sleep(3 * time.Second) // of the bubble's own time
		m.change(nil)
		rec = <-done
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("the change was seen after %s", took)
		}
		if rec.Header().Get("X-Cloudless-Index") != "6" {
			t.Errorf("index %q", rec.Header().Get("X-Cloudless-Index"))
		}
		start = time.Now()
		ask(s, api.RoleViewer, http.MethodGet, "/v1/nodes?index=6&wait=9h", "")
		if took := time.Since(start); took != api.MaxBlockingWait {
			t.Errorf("the longest wait took %s", took)
		}
		if s.sessions.total != 0 {
			t.Errorf("%d sessions left open", s.sessions.total)
		}
	})
}

// Waiting for the routes ends with the nodes' acknowledgement, which moves no index.
func TestSettledWakesOnAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := newTest(t)
		m.acked = make(chan struct{})
		done := make(chan *httptest.ResponseRecorder)
		start := time.Now()
		go func() { done <- ask(s, api.RoleViewer, http.MethodGet, hello+"/settled?index=5&wait=1m", "") }()
		time.Sleep(3 * time.Second) // of the bubble's own time
		close(m.acked)
		rec := <-done
		var st api.Settled
		if err := json.Unmarshal(rec.Body.Bytes(), &st); err != nil || !st.Routed {
			t.Errorf("%s: %v", rec.Body, err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("the acknowledgement was seen after %s", took)
		}
		start = time.Now() // routed: nothing is left but changes of the state
		ask(s, api.RoleViewer, http.MethodGet, hello+"/settled?index=5&wait=10s", "")
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("without a change it took %s", took)
		}
	})
}

func event(id string, index uint64) api.Event {
	return api.Event{ID: id, Index: index, Type: "node.ready", Severity: api.SeverityInfo, Resource: "node/one"}
}

func listen(t *testing.T, base, query, last string) func() string {
	t.Helper()
	req, _ := http.NewRequestWithContext(deadline(t), http.MethodGet, base+"/v1/events?follow=true"+query, nil)
	req.Header.Set("Authorization", "Bearer viewer")
	req.Header.Set("Last-Event-ID", last)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Fatalf("%d %s", resp.StatusCode, ct)
	}
	lines := bufio.NewScanner(resp.Body)
	return func() string {
		t.Helper()
		for lines.Scan() {
			if id, found := strings.CutPrefix(lines.Text(), "data: "); found {
				var e api.Event
				if err := json.Unmarshal([]byte(id), &e); err != nil {
					t.Fatal(err)
				}
				return e.ID
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return ""
	}
}

func serve(t *testing.T, s *server) string {
	t.Helper()
	h := httptest.NewServer(s.echo)
	t.Cleanup(h.Close)
	return h.URL
}

func TestFollowedEventsComeOnceAndInOrder(t *testing.T) {
	m, s := newTest(t)
	m.events = []api.Event{event("3", 3), event("one/1", 0), event("4", 4)}
	next := listen(t, serve(t, s), "", "")
	for _, want := range []string{"3", "one/1", "4"} {
		if got := next(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	for _, e := range []api.Event{event("6", 6), event("6-1", 6), event("one/2", 0), event("9", 9)} {
		m.emit(e)
		if got := next(); got != e.ID {
			t.Fatalf("got %s, want %s", got, e.ID)
		}
	}
}

// With a limit the newest come first, and then what is new: never what was left out.
func TestFollowingTheNewestEventsGoesOnFromThere(t *testing.T) {
	m, s := newTest(t)
	m.events = []api.Event{event("3", 3), event("one/1", 0), event("4", 4), event("one/2", 0)}
	next := listen(t, serve(t, s), "&limit=1", "")
	if got := next(); got != "one/2" {
		t.Fatalf("it begins with %s", got)
	}
	m.emit(event("5", 5))
	if got := next(); got != "5" {
		t.Errorf("then comes %s", got)
	}
}

// Coordinators whose clocks differ write times into the log that do not rise.
func TestNoFollowedEventIsLostToAClock(t *testing.T) {
	m, s := newTest(t)
	m.events = []api.Event{event("5", 5), event("one/1", 0), event("3", 3), event("4", 4)}
	next := listen(t, serve(t, s), "", "")
	for _, want := range []string{"3", "one/1", "4", "5"} {
		if got := next(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

func TestEventsResume(t *testing.T) {
	m, s := newTest(t)
	m.events = []api.Event{event("3", 3), event("4", 4), event("4-1", 4), event("4-2", 4), event("7", 7)}
	base := serve(t, s)
	for last, want := range map[string][]string{"3": {"4", "4-1", "4-2", "7"}, "4": {"4-1", "4-2", "7"}, "4-1": {"4-2", "7"}, "4-9": {"4", "4-1", "4-2", "7"}, "5": {"7"}} {
		next := listen(t, base, "", last)
		for _, id := range want {
			if got := next(); got != id {
				t.Errorf("after %s: got %s, want %s", last, got, id)
			}
		}
	}
	next := listen(t, base, "&after=4", "")
	if got := next(); got != "7" {
		t.Errorf("?after=4 begins with %s", got)
	}
	wantCode(t, ask(s, api.RoleViewer, http.MethodGet, "/v1/events?follow=true", "", "Last-Event-ID", "one/2"), api.CodeInvalid)
}

func TestQuietStreamBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := newTest(t)
		ctx, leave := context.WithTimeout(context.Background(), 40*time.Second)
		defer leave()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/events?follow=true", nil)
		r.Header.Set("Authorization", "Bearer viewer")
		rec := httptest.NewRecorder()
		s.echo.ServeHTTP(rec, r)
		if beats := strings.Count(rec.Body.String(), ": alive\n\n"); beats != 2 {
			t.Errorf("%d beats in 40 s: %q", beats, rec.Body)
		}
		if s.sessions.total != 0 {
			t.Errorf("%d sessions left open", s.sessions.total)
		}
	})
}

func TestLogsStreamAsTheyCome(t *testing.T) {
	m, s := newTest(t)
	r, w := io.Pipe()
	m.log = r
	req, _ := http.NewRequestWithContext(deadline(t), http.MethodGet, serve(t, s)+hello+"/logs?follow=true", nil)
	req.Header.Set("Authorization", "Bearer viewer")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/plain; charset=utf-8" {
		t.Error(ct)
	}
	lines := bufio.NewReader(resp.Body)
	for _, want := range []string{"one\n", "<script>two</script>\n"} {
		io.WriteString(w, want)
		if got, err := lines.ReadString('\n'); got != want || err != nil {
			t.Fatalf("%q %v", got, err)
		}
	}
	w.CloseWithError(errors.New("the node went away"))
	if _, err := lines.ReadString('\n'); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a broken log looks like one that ended: %v", err)
	}
}

func dial(t *testing.T, base, query string, role api.Role, origin string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	h := http.Header{"Authorization": {"Bearer " + string(role)}}
	if origin != "" {
		h.Set("Origin", origin)
	}
	return websocket.Dial(deadline(t), base+hello+"/exec"+query, &websocket.DialOptions{HTTPHeader: h})
}

func TestExec(t *testing.T) {
	m, s := newTest(t)
	m.exec.closed = make(chan struct{})
	ws, _, err := dial(t, serve(t, s), "?cmd=sh&cmd=-c&stdin=true", api.RoleOperator, "")
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ctx := deadline(t)
	in := append([]byte{api.ExecStdin}, "ls\n"...)
	if err := ws.Write(ctx, websocket.MessageBinary, in); err != nil {
		t.Fatal(err)
	}
	if got := <-m.exec.in; !bytes.Equal(got, in) {
		t.Errorf("the command got %q", got)
	}
	exit := append([]byte{api.ExecExit}, `{"code":3}`...)
	m.exec.out <- append([]byte{api.ExecStdout}, "file\n"...)
	m.exec.out <- exit
	close(m.exec.out)
	for _, want := range []string{"\x01file\n", string(exit)} {
		if _, got, err := ws.Read(ctx); err != nil || string(got) != want {
			t.Fatalf("%q %v", got, err)
		}
	}
	if _, _, err := ws.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("the end was %v", err)
	}
	<-m.exec.closed
	if want := "GET /v1/workloads/:ns/:name/exec | workloads/default/hello/exec | "; len(m.audits) != 1 || m.audits[0] != want {
		t.Errorf("audited as %q, want %q", m.audits, want)
	}
}

func TestExecEndsWhenTheClientLeavesOrMisbehaves(t *testing.T) {
	for name, act := range map[string]func(context.Context, *websocket.Conn) error{
		"leaves":       func(_ context.Context, ws *websocket.Conn) error { return ws.CloseNow() },
		"says goodbye": func(_ context.Context, ws *websocket.Conn) error { return ws.Close(websocket.StatusNormalClosure, "") },
		"sends text": func(ctx context.Context, ws *websocket.Conn) error {
			return ws.Write(ctx, websocket.MessageText, []byte("hi"))
		},
		"sends output": func(ctx context.Context, ws *websocket.Conn) error {
			return ws.Write(ctx, websocket.MessageBinary, []byte{api.ExecStdout})
		},
		"sends nothing": func(ctx context.Context, ws *websocket.Conn) error {
			return ws.Write(ctx, websocket.MessageBinary, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, s := newTest(t)
			m.exec.closed = make(chan struct{})
			ws, _, err := dial(t, serve(t, s), "?cmd=sh", api.RoleOperator, "")
			if err != nil {
				t.Fatal(err)
			}
			defer ws.CloseNow()
			if err := act(deadline(t), ws); err != nil {
				t.Fatal(err)
			}
			go ws.Read(context.Background()) // answers the server's goodbye; ends with the connection
			<-m.exec.closed
		})
	}
}

func TestExecRefusals(t *testing.T) {
	m, s := newTest(t)
	base := serve(t, s)
	for name, c := range map[string]struct {
		query, origin string
		role          api.Role
		want          int
	}{
		"another site's page": {"?cmd=sh", "https://evil.test", api.RoleOperator, 403},
		"a viewer":            {"?cmd=sh", "", api.RoleViewer, 403},
		"a stranger":          {"?cmd=sh", "", "wrong", 401},
		"no command":          {"", "", api.RoleOperator, 400},
		"unknown command":     {"?cmd=missing", "", api.RoleOperator, 404},
	} {
		ws, resp, err := dial(t, base, c.query, c.role, c.origin)
		if err == nil {
			ws.CloseNow()
		}
		if resp == nil || resp.StatusCode != c.want {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
	}
	if n := len(m.writers()); n != 1 { // the unknown command got through to the backend
		t.Errorf("the backend was asked %d times", n)
	}
}

// oneConn is a listener of one connection.
type oneConn chan net.Conn

func (l oneConn) Accept() (net.Conn, error) {
	if conn, ok := <-l; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l oneConn) Addr() net.Addr { return nil }
func (l oneConn) Close() error   { close(l); return nil }

// TestAQuietLogIsFollowedOn: a replica may say nothing for longer than a client may take for what it has said.
func TestAQuietLogIsFollowedOn(t *testing.T) {
	for proto, choose := range map[string]func(*http.Protocols, bool){
		"HTTP/1.1": (*http.Protocols).SetHTTP1, "HTTP/2.0": (*http.Protocols).SetUnencryptedHTTP2,
	} {
		t.Run(proto, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, s := newTest(t)
				log, said := io.Pipe()
				m.log = log
				go func() {
					io.WriteString(said, "one\n")
					time.Sleep(2 * writeTimeout) // of the bubble's own time
					io.WriteString(said, "two\n")
					said.Close()
				}()
				near, far := net.Pipe()
				ln := make(oneConn, 1)
				ln <- far
				spoken := new(http.Protocols)
				choose(spoken, true)
				srv, ended := &http.Server{Handler: s.echo, Protocols: spoken}, make(chan error)
				go func() { ended <- srv.Serve(ln) }()
				client := &http.Transport{Protocols: spoken, DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }}
				req := httptest.NewRequest(http.MethodGet, "http://localhost"+hello+"/logs?follow=true", http.NoBody)
				req.Header.Set("Authorization", "Bearer viewer")
				resp, err := client.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				if text, err := io.ReadAll(resp.Body); resp.Proto != proto || string(text) != "one\ntwo\n" || err != nil {
					t.Errorf("%s: %q, %v", resp.Proto, text, err)
				}
				log.Close()
				client.CloseIdleConnections()
				srv.Close()
				<-ended
			})
		})
	}
}
