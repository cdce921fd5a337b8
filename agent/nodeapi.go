package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// nodeAPI is what others may ask of this node. A route lets in only who it names.
func (a *Agent) nodeAPI() http.Handler {
	mux := http.NewServeMux()
	for pattern, route := range a.nodeRoutes() {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			id, ok := link.PeerOfRequest(r)
			if !ok || route.may == nil {
				writeError(w, api.Errorf(api.CodeForbidden, "this is not for you"))
			} else if err := route.may(id, r); err != nil {
				writeError(w, err)
			} else {
				route.serve(w, r)
			}
		})
	}
	return mux
}

// nodeRoute is one thing to ask for; may tells why a member may not.
type nodeRoute struct {
	may   func(id pki.Identity, r *http.Request) error
	serve http.HandlerFunc
}

// nodeRoutes is the whole API of the node port. What is not in it does not exist.
func (a *Agent) nodeRoutes() map[string]nodeRoute {
	routes := map[string]nodeRoute{
		"GET " + api.PathReplicaLogs + "{id}":  {onlyCoordinators, a.handleLogs},
		"POST " + api.PathReplicaExec + "{id}": {onlyCoordinators, a.handleExec},
	}
	maps.Copy(routes, a.storeRoutes())
	return routes
}

func onlyCoordinators(id pki.Identity, _ *http.Request) error {
	if id.Role != api.RoleServer {
		return api.Errorf(api.CodeForbidden, "this is for coordinators only")
	}
	return nil
}

func writeError(w http.ResponseWriter, err error) {
	e := api.AsError(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Code.HTTPStatus())
	_ = json.NewEncoder(w).Encode(api.ErrorBody{Error: e}) // the caller is gone; nobody is left to tell
}

func (a *Agent) handleLogs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	opt := api.LogOptions{Follow: q.Get("follow") == "true", Previous: q.Get("previous") == "true", Timestamps: q.Get("timestamps") == "true", Tail: -1}
	if n, err := strconv.Atoi(q.Get("tail")); err == nil {
		opt.Tail = n
	}
	if t, err := time.Parse(time.RFC3339Nano, q.Get("since")); err == nil {
		opt.Since = t
	}
	out := &lazyWriter{w: w}
	switch err := a.sup.Logs(r.Context(), r.PathValue("id"), opt, out, out.flush); {
	case err != nil && out.began:
		out.flush()
		panic(http.ErrAbortHandler) // a log that broke off must not look like one that ended
	case err != nil:
		writeError(w, err)
	}
}

// lazyWriter sends the head with the first byte, so that an error before it can still be told.
type lazyWriter struct {
	w     http.ResponseWriter
	began bool
}

func (l *lazyWriter) Write(p []byte) (int, error) {
	if !l.began {
		l.began = true
		l.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	return l.w.Write(p)
}

func (l *lazyWriter) flush() {
	l.began = true
	_ = http.NewResponseController(l.w).Flush() // the reader is gone; the next write says so
}

// handleExec runs a command. The request's body and the answer's are frames, in both directions at once.
func (a *Agent) handleExec(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	w.WriteHeader(http.StatusOK)
	out := &frameWriter{w: w}
	out.flush()
	stdinR, stdinW := io.Pipe()
	resize, signals := make(chan api.TermSize, 4), make(chan string, 4)
	req := sandbox.ExecRequest{
		Command: q["cmd"], TTY: q.Get("tty") == "true", Stdout: out.stream(api.ExecStdout), Stderr: out.stream(api.ExecStderr), Resize: resize, Signals: signals,
	}
	if q.Get("stdin") == "true" {
		req.Stdin = stdinR
	}
	g := run.New(ctx)
	g.Go("exec input", func(ctx context.Context) error {
		err := readInput(ctx, r.Body, stdinW, resize, signals)
		if err != nil {
			cancel() // the caller is gone
		}
		return nil
	})
	code, err := a.sup.Exec(ctx, r.PathValue("id"), req)
	st := api.ExecExitStatus{Code: code}
	if err != nil {
		st.Error = api.AsError(err)
	}
	payload, _ := json.Marshal(st) // numbers and strings: cannot fail
	_ = out.send(api.ExecExit, payload)
	cancel()
	_ = errors.Join(stdinR.Close(), r.Body.Close(), g.Wait())
}

// readInput hands what the caller sends to the command. Its end is not an error when the caller
// said that nothing more comes.
func readInput(ctx context.Context, body io.Reader, stdin *io.PipeWriter, resize chan<- api.TermSize, signals chan<- string) error {
	for {
		msg, err := api.ReadFrame(body)
		if err != nil {
			return errors.Join(err, stdin.Close())
		}
		if len(msg) == 0 {
			continue
		}
		switch msg[0] {
		case api.ExecStdin:
			if _, err := stdin.Write(msg[1:]); err != nil {
				continue // the command has closed its input
			}
		case api.ExecEOF:
			_ = stdin.Close() // never fails (io.PipeWriter)
		case api.ExecResize:
			var size api.TermSize
			if json.Unmarshal(msg[1:], &size) == nil {
				offer(ctx, resize, size)
			}
		case api.ExecSignal:
			var sig struct {
				Signal string `json:"signal"`
			}
			if json.Unmarshal(msg[1:], &sig) == nil {
				offer(ctx, signals, sig.Signal)
			}
		}
	}
}

func offer[T any](ctx context.Context, ch chan<- T, v T) {
	select {
	case ch <- v:
	case <-ctx.Done():
	}
}

// frameWriter sends messages of several streams over one response.
type frameWriter struct {
	mu sync.Mutex
	w  http.ResponseWriter
}

func (f *frameWriter) flush() { _ = http.NewResponseController(f.w).Flush() }

func (f *frameWriter) send(stream byte, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := api.WriteFrame(f.w, append([]byte{stream}, p...)); err != nil {
		return err
	}
	f.flush()
	return nil
}

func (f *frameWriter) stream(id byte) io.Writer { return frameStream{f, id} }

type frameStream struct {
	f  *frameWriter
	id byte
}

func (s frameStream) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		chunk := p[n:min(len(p), n+api.MaxFrame/2)]
		if err := s.f.send(s.id, chunk); err != nil {
			return n, err
		}
		n += len(chunk)
	}
	return len(p), nil
}

// servePublic answers strangers, most of them at one time, until the agent ends; requests in flight get
// their time.
func servePublic(ctx context.Context, ln net.Listener, h http.Handler, most int) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: api.MaxHeaderBytes}
	link.Limit(srv, most)
	g := run.New(context.Background())
	g.Go("stop", func(context.Context) error {
		<-ctx.Done()
		sctx, cancel := context.WithTimeout(context.Background(), drainRequests)
		defer cancel()
		if err := srv.Shutdown(sctx); err != nil {
			return srv.Close()
		}
		return nil
	})
	err := srv.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, g.Wait())
}

// drainRequests is how long requests in flight may take when the agent stops.
const drainRequests = 10 * time.Second

// maxIngressConns bounds the connections of the workloads' users at one ingress.
const maxIngressConns = 8192
