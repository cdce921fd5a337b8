package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
	"github.com/cloudless/cloudless/test/process"
)

const (
	formTimeout = 60 * time.Second
	pollEvery   = 20 * time.Millisecond
)

// cluster is some coordinators and agents, each a process of its own, on loopback and free ports.
type cluster struct {
	binary, dir string
	containerd  string
	coords      []*process.Process
	agents      []*process.Process
	client      *client.Client
	joinNode    string
	enter       func() error // puts further agents on another kind of machine
}

// newCluster starts one and waits until all its members are ready.
func (l *lab) newCluster(ctx context.Context, coordinators, agents int, containerd string) (*cluster, error) {
	dir, err := os.MkdirTemp(l.dir, "k")
	if err != nil {
		return nil, err
	}
	k := &cluster{binary: l.binary, dir: dir, containerd: containerd}
	if err := k.form(ctx, coordinators, agents); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

func (k *cluster) form(ctx context.Context, coordinators, agents int) (err error) {
	ctx, cancel := context.WithTimeout(ctx, formTimeout)
	defer cancel()
	if err := k.startCoordinators(ctx, coordinators); err != nil {
		return err
	}
	if k.joinNode, err = k.token(ctx, api.RoleNode); err != nil {
		return err
	}
	for i := range agents {
		if err := k.startAgent(ctx, i); err != nil {
			return err
		}
	}
	return k.whole(ctx)
}

func (k *cluster) startCoordinators(ctx context.Context, n int) error {
	var join []string
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		args := append([]string{"coordinator", "--data-dir", filepath.Join(k.dir, name), "--name", name, "--advertise", "127.0.0.1",
			"--http-addr", "127.0.0.1:0", "--node-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"}, join...)
		p, err := process.Start(ctx, process.Config{Binary: k.binary, Args: args})
		if err != nil {
			return err
		}
		k.coords = append(k.coords, p)
		if err := k.connect(); err != nil {
			return err
		}
		if i == 0 && n > 1 {
			token, err := k.token(ctx, api.RoleServer)
			if err != nil {
				return err
			}
			join = []string{"--join", p.Get("node"), "--token", "@" + token}
		}
	}
	return nil
}

func (k *cluster) startAgent(ctx context.Context, i int) error {
	name := fmt.Sprintf("a%d", i)
	p, err := process.Start(ctx, process.Config{Binary: k.binary, Enter: k.enter, Args: []string{"agent", "--data-dir", filepath.Join(k.dir, name), "--name", name, "--zone", name, "--advertise", "127.0.0.1",
		"--containerd", k.containerd, "--node-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0", "--ingress-addr", "127.0.0.1:0", "--s3-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0",
		"--join", k.coords[0].Get("node"), "--token", "@" + k.joinNode}})
	if err == nil {
		k.agents = append(k.agents, p)
	}
	return err
}

// restart brings one back that was killed, on the same data folder.
func (k *cluster) restart(ctx context.Context, list []*process.Process, i int) error {
	p, err := process.Start(ctx, process.Config{Binary: k.binary, Args: list[i].Args()})
	if err == nil {
		list[i] = p
	}
	return err
}

// connect makes a client of all coordinators, with the first one's CA and admin token.
func (k *cluster) connect() error {
	var addresses []string
	for _, c := range k.coords {
		addresses = append(addresses, c.Get("http"))
	}
	c, err := k.dial(addresses, client.Config{})
	if err != nil {
		return err
	}
	if k.client != nil {
		k.client.Close()
	}
	k.client = c
	return nil
}

func (k *cluster) dial(addresses []string, cfg client.Config) (*client.Client, error) {
	ca, err := os.ReadFile(filepath.Join(k.dir, "c0", "ca.pem"))
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(filepath.Join(k.dir, "c0", "admin.token"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("ca.pem holds no certificate")
	}
	cfg.Addresses, cfg.Token = addresses, strings.TrimSpace(string(token))
	cfg.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
	return client.New(cfg)
}

// env is what the command line needs to reach the cluster.
func (k *cluster) env() []string {
	return append(os.Environ(), "NO_COLOR=1", "CLOUDLESS_CONFIG="+filepath.Join(k.dir, "config.yaml"), "CLOUDLESS_ADDRESS="+strings.Join(k.client.Addresses(), ","),
		"CLOUDLESS_CA_CERT="+filepath.Join(k.dir, "c0", "ca.pem"), "CLOUDLESS_TOKEN=@"+filepath.Join(k.dir, "c0", "admin.token"))
}

// token makes a join token and keeps it in a file.
func (k *cluster) token(ctx context.Context, role api.Role) (string, error) {
	var t api.Token
	var last error
	err := poll(ctx, func() (bool, error) {
		t, last = k.client.CreateToken(ctx, api.TokenRequest{Role: role})
		return last == nil, nil // a founder knows its admin token only once it leads; the deadline bounds it
	})
	if err != nil {
		return "", fmt.Errorf("no token is made: %w: %w", err, last)
	}
	path := filepath.Join(k.dir, string(role)+".token")
	return path, os.WriteFile(path, []byte(t.Secret), 0o600)
}

// whole waits until every coordinator is a healthy voter and every agent a ready node.
func (k *cluster) whole(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, formTimeout)
	defer cancel()
	var last api.ClusterStatus
	err := poll(ctx, func() (bool, error) {
		st, err := k.client.Status(ctx, 0, 0)
		if err != nil {
			return false, nil // it is coming up; the deadline bounds it
		}
		last = st
		return st.Leader != "" && healthy(st) == len(k.coords) && st.Nodes[string(api.NodeReady)] == len(k.agents), nil
	})
	if err != nil {
		return fmt.Errorf("the cluster is not whole (leader %q, %d healthy voters, nodes %v): %w", last.Leader, healthy(last), last.Nodes, err)
	}
	return nil
}

func healthy(st api.ClusterStatus) int {
	n := 0
	for _, m := range st.Coordinators {
		if m.Voter && m.Healthy {
			n++
		}
	}
	return n
}

// poll asks until done, an error or the end of ctx: the only way to wait for another process.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// close ends every process, agents first, and removes what they kept.
func (k *cluster) close() error {
	var errs []error
	for _, list := range [][]*process.Process{k.agents, k.coords} {
		for _, p := range list {
			errs = append(errs, p.End(syscall.SIGTERM))
		}
	}
	if k.client != nil {
		k.client.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(k.dir))...)
}
