package e2e

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudless/cloudless/test/process"
)

// start runs a role on loopback and ends it with the test.
func start(t *testing.T, env []string, args ...string) *process.Process {
	t.Helper()
	p, err := process.Start(t.Context(), process.Config{Binary: binary, Args: args, Env: env})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.End(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	})
	return p
}

// cli runs the command line against a cluster.
type cli struct {
	t   *testing.T
	env []string
}

// run gives standard output, standard error and the exit code.
func (c cli) run(args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), c.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		c.t.Fatalf("%v: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must is run for commands that succeed.
func (c cli) must(args ...string) string {
	c.t.Helper()
	out, errs, code := c.run(args...)
	if code != 0 {
		c.t.Fatalf("cloudless %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// patience is how long what is promised may take on a loaded machine before a test gives up. Times
// that matter are measured by test/bench, not here.
const patience = 60 * time.Second

// eventually polls until f is true: the only way to wait for another process. It logs how long it took.
func eventually(t *testing.T, what string, f func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Since(began) > patience {
			t.Fatalf("not within %s: %s", patience, what)
		}
		<-tick.C
	}
	took := time.Since(began)
	t.Logf("%s: after %s", what, took.Round(time.Millisecond))
	return took
}

var httpClient = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// fetch asks an ingress for a host.
func fetch(ingress, host, path string) (int, string) { return fetchBy(httpClient, ingress, host, path) }

func fetchBy(by *http.Client, ingress, host, path string) (int, string) {
	req, err := http.NewRequest(http.MethodGet, ingress+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	req.Host = host
	resp, err := by.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// shortDir is a temporary folder with a short path: sockets below it are limited to 108 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cl-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
