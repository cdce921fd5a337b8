package coordinator

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/telemetry"
)

// patience is how long a test waits for what will come; a loaded machine is slow.
const patience = 2 * time.Minute

var admin = api.Caller{TokenID: "t-test", Role: api.RoleAdmin}

// cluster is several coordinators of one process, on loopback.
type cluster struct {
	t       testing.TB
	servers []*Server
	dirs    []string
	token   string // of role server
	seed    string // where the first one was when the token was made
}

// newCluster founds a cluster of n. A test of one coordinator may run beside others, for it waits for
// nobody; several lose their leader on a machine that is too busy, so theirs run one by one.
func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	c := &cluster{t: t}
	data := t.TempDir() // before the cleanup below, so that it is removed when all have stopped
	t.Cleanup(func() {
		for i := range c.servers {
			c.stop(i)
		}
	})
	for i := range n {
		c.dirs = append(c.dirs, filepath.Join(data, fmt.Sprint(i)))
		c.servers = append(c.servers, nil)
		c.start(i)
		if i == 0 {
			c.eventually("a founded cluster", func() bool { return c.servers[0].Ready(t.Context()) == nil })
			tok, err := c.servers[0].CreateToken(t.Context(), admin, api.TokenRequest{Role: api.RoleServer})
			if err != nil {
				t.Fatal(err)
			}
			c.token, c.seed = tok.Secret, c.servers[0].cfg.AdvertiseNode
		}
	}
	c.eventually("all to be voters, and to know each other", func() bool {
		for _, s := range c.servers {
			if s.voters() != n || len(s.members()) != n || s.Ready(t.Context()) != nil {
				return false
			}
		}
		return true
	})
	return c
}

// open starts coordinator i on what its folder holds.
func (c *cluster) open(i int) (*Server, error) {
	c.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	name := fmt.Sprintf("c%d", i)
	tel, err := telemetry.New(telemetry.Config{Role: "coordinator", Node: name, Version: "test", LogWriter: quiet{}, LogLevel: "warn"})
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := Config{
		DataDir: c.dirs[i], Name: name, Listener: ln, AdvertiseNode: ln.Addr().String(), AdvertiseHTTP: "https://127.0.0.1:1",
		GossipAddr: "127.0.0.1:0", AdvertiseHost: "127.0.0.1", Version: "test", Tel: tel, Log: tel.Log,
	}
	if i > 0 {
		cfg.Join, cfg.Token = []string{c.seed}, c.token
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	return Open(ctx, cfg)
}

type quiet struct{}

func (quiet) Write(b []byte) (int, error) { return len(b), nil }

func (c *cluster) start(i int) {
	c.t.Helper()
	s, err := c.open(i)
	if err != nil {
		c.t.Fatalf("start coordinator %d: %v", i, err)
	}
	c.servers[i] = s
}

func (c *cluster) stop(i int) {
	if c.servers[i] != nil {
		if err := c.servers[i].Close(); err != nil && api.CodeOf(err) != api.CodeForbidden { // forbidden: it was removed
			c.t.Errorf("close coordinator %d: %v", i, err)
		}
		c.servers[i] = nil
	}
}

func (c *cluster) eventually(what string, ok func() bool) {
	c.t.Helper()
	eventually(c.t, what, ok)
}

// eventually polls what real processes do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// leader is the number of the one that leads.
func (c *cluster) leader() int {
	c.t.Helper()
	found := -1
	c.eventually("a leader", func() bool {
		for i, s := range c.servers {
			if s != nil && s.raft.IsLeader() {
				found = i
			}
		}
		return found >= 0
	})
	return found
}

// followers are the numbers of the others that run.
func (c *cluster) followers() []int {
	leader := c.leader()
	var out []int
	for i, s := range c.servers {
		if s != nil && i != leader {
			out = append(out, i)
		}
	}
	return out
}

func upload(t *testing.T, s *Server, content string) (string, error) {
	t.Helper()
	digest := digestOf([]byte(content))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := s.PutArtifact(ctx, admin, digest, api.ArtifactWasm, "", bytes.NewReader([]byte(content)))
	return digest, err
}
