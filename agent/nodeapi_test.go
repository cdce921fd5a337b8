package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
)

// reach is a node with one replica, and what a coordinator calls it by.
type reach struct {
	*coordinator
	a      *Agent
	client *http.Client
}

func newReach(t *testing.T, script fake.Script) *reach {
	c := newSite(t).coordinator("s-1", "127.0.0.1:0")
	digest := digestOf(module)
	c.artifacts[digest] = module
	c.set = assigned(1, 1, digest, "r-1")
	script.Variant = api.VariantWasm
	a := c.open(c.config("one", fake.New(script)))
	c.sees("a running replica", func() bool { return c.last("r-1").State == api.ReplicaRunning })
	want := pki.Identity{Cluster: cluster, Role: api.RoleNode, ID: a.ID()}
	r := &reach{c, a, (&link.Dialer{Creds: c.member(api.RoleServer, "s-1")}).HTTPClient(api.ALPNNode, want)}
	t.Cleanup(r.client.CloseIdleConnections)
	return r
}

func (r *reach) do(ctx context.Context, method, path string, body io.Reader) *http.Response {
	r.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+r.a.cfg.Listener.Addr().String()+path, body)
	r.check(err)
	res, err := r.client.Do(req)
	r.check(err)
	return res
}

func frame(t *testing.T, w io.Writer, stream byte, payload string) {
	t.Helper()
	if err := api.WriteFrame(w, append([]byte{stream}, payload...)); err != nil {
		t.Error(err)
	}
}

// A command's streams, sizes, signals and exit pass both ways at once, each in its own frames.
func TestExecOverTheNodePort(t *testing.T) {
	r := newReach(t, fake.Script{Exec: func(_ context.Context, _ sandbox.Spec, req sandbox.ExecRequest) (int, error) {
		if !req.TTY || fmt.Sprint(req.Command) != "[cat -v]" {
			return 1, nil
		}
		size, signal := <-req.Resize, <-req.Signals
		fmt.Fprintf(req.Stderr, "%dx%d %s", size.Cols, size.Rows, signal)
		n, err := io.Copy(req.Stdout, req.Stdin)
		return int(n % 256), err
	}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	in, typed := io.Pipe()
	res := r.do(ctx, http.MethodPost, api.PathReplicaExec+"r-1?cmd=cat&cmd=-v&tty=true&stdin=true", in)
	defer res.Body.Close()
	input := strings.Repeat("x", 3*api.MaxFrame)
	go func() {
		frame(t, typed, api.ExecResize, `{"cols":80,"rows":24}`)
		frame(t, typed, api.ExecSignal, `{"signal":"INT"}`)
		frame(t, typed, 99, "a later version's")
		for at := 0; at < len(input); at += 50_000 {
			frame(t, typed, api.ExecStdin, input[at:min(len(input), at+50_000)])
		}
		frame(t, typed, api.ExecEOF, "")
	}()
	var stdout, stderr bytes.Buffer
	var exit api.ExecExitStatus
	for {
		msg, err := api.ReadFrame(res.Body)
		if err != nil {
			break
		}
		switch msg[0] {
		case api.ExecStdout:
			stdout.Write(msg[1:])
		case api.ExecStderr:
			stderr.Write(msg[1:])
		case api.ExecExit:
			r.check(json.Unmarshal(msg[1:], &exit))
		}
	}
	typed.Close()
	if exit.Code != len(input)%256 || exit.Error != nil || stdout.String() != input || stderr.String() != "80x24 INT" {
		t.Errorf("exit %+v, %d bytes of output, stderr %q", exit, stdout.Len(), &stderr)
	}
}

// What keeps a command from running is told in the exit; a caller that leaves ends the command.
func TestExecThatCannotBe(t *testing.T) {
	ended := make(chan struct{})
	r := newReach(t, fake.Script{Exec: func(ctx context.Context, _ sandbox.Spec, req sandbox.ExecRequest) (int, error) {
		if req.Command[0] == "wait" {
			<-ctx.Done()
			close(ended)
			return 0, ctx.Err()
		}
		return 0, api.Errorf(api.CodeInvalid, "%q is not in the image", req.Command[0])
	}})
	for path, code := range map[string]api.Code{"r-1?cmd=nothing": api.CodeInvalid, "r-9?cmd=true": api.CodeNotFound} {
		res := r.do(t.Context(), http.MethodPost, api.PathReplicaExec+path, nil)
		msg, err := api.ReadFrame(res.Body)
		res.Body.Close()
		var exit api.ExecExitStatus
		if err != nil || msg[0] != api.ExecExit || json.Unmarshal(msg[1:], &exit) != nil || exit.Error == nil || exit.Error.Code != code {
			t.Errorf("%s: %q, %v", path, msg, err)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	in, _ := io.Pipe()
	res := r.do(ctx, http.MethodPost, api.PathReplicaExec+"r-1?cmd=wait", in)
	leave()
	res.Body.Close()
	eventually(t, "the command ends with its caller", func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
}

// Logs are selected as asked, and followed until the reader leaves.
func TestLogsOverTheNodePort(t *testing.T) {
	more := make(chan string)
	r := newReach(t, fake.Script{Main: func(g fake.Guest) sandbox.Exit {
		fmt.Fprint(g.Spec.Log, "one\ntwo\nthree\n")
		for {
			select {
			case line := <-more:
				fmt.Fprintln(g.Spec.Log, line)
			case <-g.Term:
				return sandbox.Exit{}
			}
		}
	}})
	read := func(query string) string {
		res := r.do(t.Context(), http.MethodGet, api.PathReplicaLogs+"r-1"+query, nil)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		r.check(err)
		return string(text)
	}
	eventually(t, "the log", func() bool { return read("") == "one\ntwo\nthree\n" })
	for query, want := range map[string]string{
		"?tail=2": "two\nthree\n", "?tail=0": "", "?tail=nonsense": "one\ntwo\nthree\n", "?since=2100-01-01T00:00:00Z": "", "?since=soon": "one\ntwo\nthree\n",
	} {
		if got := read(query); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	if got := read("?previous=true"); !strings.Contains(got, "not_found") {
		t.Errorf("a previous log: %q", got)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	res := r.do(ctx, http.MethodGet, api.PathReplicaLogs+"r-1?follow=true&tail=1", nil)
	defer res.Body.Close()
	got := make([]byte, len("three\nfour\n"))
	if _, err := io.ReadFull(res.Body, got[:6]); err != nil {
		t.Fatal(err)
	}
	more <- "four"
	if _, err := io.ReadFull(res.Body, got[6:]); err != nil || string(got) != "three\nfour\n" {
		t.Errorf("followed %q, %v", got, err)
	}
}

// A log that cannot be read to its end does not look like one that has ended.
func TestALogThatBreaksOffIsNotWhole(t *testing.T) {
	r := newReach(t, fake.Script{})
	dir := filepath.Join(r.a.path("logs"), "r-1")
	r.check(os.MkdirAll(filepath.Join(dir, "0.log"), 0o700)) // which no read gets a line of
	r.check(os.WriteFile(filepath.Join(dir, "0.log.1"), []byte("first\n"), 0o600))
	res := r.do(t.Context(), http.MethodGet, api.PathReplicaLogs+"r-1", nil)
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("it ended after %q", got)
	}
}
