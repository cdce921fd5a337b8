package supervise

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// firstProbe is the pause after the first failed readiness check of a start. It doubles up to the
// probe's interval, so that a replica that is quick is seen so.
const firstProbe = 20 * time.Millisecond

// The probes, as OnFailedProbe names them.
const (
	Readiness = "readiness"
	Liveness  = "liveness"
)

// check is one look at a replica; its error is the reason for people.
type check func(ctx context.Context) error

// probe says that the replica runs, and starts what looks after it. Without any check no goroutine is
// needed.
func (w *watch) probe() {
	r := w.r
	ready, p := r.readiness(w.h)
	r.change(func(rep *api.ReplicaReport) {
		rep.State, rep.Ready, rep.Reason = api.ReplicaRunning, ready == nil, ""
	})
	if ready != nil {
		r.attend(Readiness, func(ctx context.Context) { r.watchReadiness(ctx, w.h, ready, p) })
	}
	if p := r.spec.Probes.Liveness; p != nil {
		r.attend(Liveness, func(ctx context.Context) { w.watchLiveness(ctx, r.checkOf(w.h, p), *p) })
	}
}

// readiness is the check that the spec asks for. A container with an http port and no probe is ready
// when the port takes a connection: then there is nothing more to look at, and p.Failures is 0.
func (r *replica) readiness(h sandbox.Handle) (check, api.Probe) {
	if p := r.spec.Probes.Readiness; p != nil {
		return r.checkOf(h, p), *p
	}
	port, ok := r.spec.HTTPPort()
	if !ok || r.assignment.Variant != api.VariantContainer || h.Endpoint().Host == "" {
		return nil, api.Probe{}
	}
	p := api.Probe{TCP: &api.TCPProbe{Port: port}, Interval: api.Duration(time.Second), Timeout: api.Duration(time.Second)}
	return r.checkOf(h, &p), p
}

// watchReadiness follows the check until ctx ends: ready after one success, unready after
// p.Failures failures in a row.
func (r *replica) watchReadiness(ctx context.Context, h sandbox.Handle, c check, p api.Probe) {
	if run.Sleep(ctx, time.Duration(p.InitialDelay)) != nil {
		return
	}
	interval := max(time.Duration(p.Interval), firstProbe)
	ready, failures, quick := false, 0, firstProbe
	for {
		err := c.within(ctx, p)
		if ctx.Err() != nil {
			return
		}
		if failures++; err != nil {
			r.s.cfg.OnFailedProbe(r.assignment.Workload, Readiness)
		}
		switch {
		case err == nil:
			failures = 0
			if !ready {
				ready = true
				r.setReady(h, true, "")
			}
			if p.Failures == 0 {
				return
			}
		case failures == max(p.Failures, 1):
			ready = false
			r.setReady(h, false, "readiness probe: "+err.Error())
		}
		pause := interval
		if err != nil && quick < interval {
			pause, quick = quick, 2*quick
		}
		if run.Sleep(ctx, pause) != nil {
			return
		}
	}
}

// setReady notes what a probe found, unless the start that it looked at is over.
func (r *replica) setReady(h sandbox.Handle, ready bool, reason string) {
	r.change(func(rep *api.ReplicaReport) {
		if r.handle == h {
			rep.Ready, rep.Reason = ready, reason
		}
	})
}

// watchLiveness asks for a restart after p.Failures failures in a row.
func (w *watch) watchLiveness(ctx context.Context, c check, p api.Probe) {
	if run.Sleep(ctx, time.Duration(p.InitialDelay)) != nil {
		return
	}
	for failures := 0; run.Sleep(ctx, max(time.Duration(p.Interval), firstProbe)) == nil; {
		err := c.within(ctx, p)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failures = 0
			continue
		}
		w.r.s.cfg.OnFailedProbe(w.r.assignment.Workload, Liveness)
		if failures++; failures >= max(p.Failures, 1) {
			w.over("liveness probe: " + err.Error())
			return
		}
	}
}

func (c check) within(ctx context.Context, p api.Probe) error {
	timeout := time.Duration(p.Timeout)
	if timeout <= 0 {
		timeout = time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := c(ctx)
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		return fmt.Errorf("no answer within %s", timeout)
	}
	return err
}

func (r *replica) checkOf(h sandbox.Handle, p *api.Probe) check {
	switch {
	case p.HTTP != nil:
		port := p.HTTP.Port
		if port == 0 {
			port, _ = r.spec.HTTPPort()
		}
		return func(ctx context.Context) error { return checkHTTP(ctx, h.Endpoint(), p.HTTP.Path, port) }
	case p.TCP != nil:
		return func(ctx context.Context) error { return checkTCP(ctx, h.Endpoint(), p.TCP.Port) }
	case p.Exec != nil:
		return func(ctx context.Context) error { return checkExec(ctx, h, p.Exec.Command) }
	}
	return func(context.Context) error { return nil }
}

// checkHTTP asks a container over its network, and a wasm guest by a call: it has no port.
func checkHTTP(ctx context.Context, e sandbox.Endpoint, path string, port int) error {
	host := "localhost"
	if e.Host != "" {
		host = net.JoinHostPort(e.Host, strconv.Itoa(port))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/"+strings.TrimPrefix(path, "/"), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "cloudless-probe")
	status, err := askHTTP(e, req)
	if err == nil && (status < 200 || status > 399) {
		err = fmt.Errorf("GET %s answered %d", req.URL.Path, status)
	}
	return err
}

func askHTTP(e sandbox.Endpoint, req *http.Request) (status int, err error) {
	if e.Handler != nil {
		req.RequestURI, req.RemoteAddr = req.URL.RequestURI(), "127.0.0.1:0"
		return askGuest(e.Handler, req)
	}
	if e.Host == "" {
		return 0, fmt.Errorf("the replica serves no http")
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req) // a redirect is an answer, not to be followed
	if err != nil {
		return 0, err
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // only the status counts
	return resp.StatusCode, resp.Body.Close()
}

// askGuest asks as an HTTP server does, of which a handler breaks off its answer by a panic.
func askGuest(h http.Handler, req *http.Request) (status int, err error) {
	w := &statusWriter{header: http.Header{}}
	defer func() {
		if p := recover(); p == http.ErrAbortHandler {
			err = fmt.Errorf("GET %s: the answer broke off", req.URL.Path)
		} else if p != nil {
			panic(p)
		}
	}()
	h.ServeHTTP(w, req)
	return w.code(), req.Context().Err()
}

// statusWriter is a ResponseWriter that keeps the status alone.
type statusWriter struct {
	header http.Header
	status int
}

func (w *statusWriter) Header() http.Header { return w.header }

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *statusWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(p), nil
}

func (w *statusWriter) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

func checkTCP(ctx context.Context, e sandbox.Endpoint, port int) error {
	if e.Host == "" {
		return fmt.Errorf("the replica has no network address")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(e.Host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("port %d takes no connection", port)
	}
	return conn.Close()
}

func checkExec(ctx context.Context, h sandbox.Handle, command []string) error {
	code, err := h.Exec(ctx, sandbox.ExecRequest{Command: command, Stdout: io.Discard, Stderr: io.Discard})
	if err == nil && code != 0 {
		err = fmt.Errorf("%s exited with code %d", command[0], code)
	}
	return err
}
