// Package s3 has clients that others wrote use the S3 doors of a real cluster: the AWS CLI, rclone, restic
// and s3cmd, as Debian packages them, and Amazon's client for Go, each in quiet and while an agent is killed.
package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/test/process"
)

const (
	agents   = 3
	patience = time.Minute // for what must come about
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "cls3-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "cloudless")
	cmd := exec.Command("go", "build", "-o", binary, "../../cli/cloudless")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	code := 1
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir) // nothing is left to do about it
	os.Exit(code)
}

// cluster is a coordinator and three agents, each a process and in a zone of its own.
type cluster struct {
	t      *testing.T
	dir    string
	client *client.Client
	coord  *process.Process
	agents []*process.Process
}

// newCluster starts a cluster, its agents with more flags.
func newCluster(t *testing.T, flags ...string) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "cls3-") // the paths of sockets are short
	must(t, err)
	k := &cluster{t: t, dir: dir}
	t.Cleanup(func() {
		if t.Failed() && k.coord != nil {
			t.Logf("the coordinator's log:\n%s\nthe first agent's log:\n%s", k.coord.Log(), k.agents[0].Log())
		}
		for _, p := range append(k.agents, k.coord) {
			if p != nil {
				_ = p.End(syscall.SIGTERM) // one that hangs is killed
			}
		}
		must(t, os.RemoveAll(dir))
	})
	k.coord = k.start("coordinator", "c", "--http-addr", "127.0.0.1:0")
	k.connect()
	tok, err := k.client.CreateToken(t.Context(), api.TokenRequest{Role: api.RoleNode})
	must(t, err)
	file := filepath.Join(dir, "node.token")
	must(t, os.WriteFile(file, []byte(tok.Secret), 0o600))
	for i := range agents {
		name := fmt.Sprint("a", i)
		k.agents = append(k.agents, k.start("agent", name, append([]string{"--zone", name, "--containerd", "off", "--ingress-addr", "127.0.0.1:0", "--s3-addr", "127.0.0.1:0",
			"--join", k.coord.Get("node"), "--token", "@" + file}, flags...)...))
	}
	k.awaitStore(agents)
	return k
}

func (k *cluster) start(role, name string, flags ...string) *process.Process {
	k.t.Helper()
	args := append([]string{role, "--data-dir", filepath.Join(k.dir, name), "--name", name, "--advertise", "127.0.0.1", "--log-level", "warn",
		"--node-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"}, flags...)
	p, err := process.Start(k.t.Context(), process.Config{Binary: binary, Args: args})
	must(k.t, err)
	return p
}

func (k *cluster) connect() {
	k.t.Helper()
	ca, err := os.ReadFile(filepath.Join(k.dir, "c", "ca.pem"))
	must(k.t, err)
	token, err := os.ReadFile(filepath.Join(k.dir, "c", "admin.token"))
	must(k.t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		k.t.Fatal("ca.pem holds no certificate")
	}
	k.client, err = client.New(client.Config{Addresses: []string{k.coord.Get("http")}, Token: strings.TrimSpace(string(token)), TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}})
	must(k.t, err)
	k.t.Cleanup(k.client.Close)
}

// awaitStore waits until that many nodes take chunks.
func (k *cluster) awaitStore(want int) {
	k.t.Helper()
	k.eventually(fmt.Sprintf("%d nodes to take chunks", want), func(ctx context.Context) error {
		report, err := k.client.StorageReport(ctx)
		if err != nil {
			return err
		}
		ready := 0
		for _, n := range report.Nodes {
			if n.State == api.StoreReady {
				ready++
			}
		}
		if ready != want {
			return fmt.Errorf("%d nodes are ready", ready)
		}
		return nil
	})
}

func (k *cluster) eventually(what string, f func(context.Context) error) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if run.Sleep(ctx, 50*time.Millisecond) != nil {
			k.t.Fatalf("waited for %s: %v", what, err)
		}
	}
}

// key makes an access key.
func (k *cluster) key(r api.TokenRequest) (access, secret string) {
	k.t.Helper()
	r.S3 = true
	var tok api.Token
	k.eventually("an access key", func(ctx context.Context) (err error) {
		tok, err = k.client.CreateToken(ctx, r)
		return err
	})
	return tok.ID, tok.Secret
}

// whileKilled runs f while the last agent is killed, and brings that back.
func (k *cluster) whileKilled(f func() error) {
	k.t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }() // ends with f
	last := k.agents[agents-1]
	killed := last.End(syscall.SIGKILL)
	must(k.t, errors.Join(killed, <-done))
	p, err := process.Start(k.t.Context(), process.Config{Binary: binary, Args: last.Args()})
	must(k.t, err)
	k.agents[agents-1] = p
	k.awaitStore(agents)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
