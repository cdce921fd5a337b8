package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
	"github.com/cloudless/cloudless/test/process"
)

// cluster is some coordinators and agents, each a process on a host of its own, all on the ports of
// the contract.
type cluster struct {
	t      *testing.T
	dir    string
	net    *network
	coords []*member
	agents []*member
	cli    cli
	api    *client.Client
}

// member is one process on its host, and how to start it again.
type member struct {
	*host
	*process.Process
	name string
	dir  string // its data folder
	args []string
}

// newCluster makes a cluster of which all members are ready. flags are what each agent gets beside
// the usual; its containerd is off unless they say otherwise.
func newCluster(t *testing.T, coordinators, agents int, flags func(agent int) []string) *cluster {
	t.Helper()
	needNamespaces(t)
	k := &cluster{t: t, dir: inMemory(t, shortDir(t), 2<<30), net: newNetwork(t)}
	t.Cleanup(k.end)
	k.addCoordinators(coordinators)
	k.addAgents(agents, flags)
	k.whole()
	return k
}

// inMemory puts a folder on a file system of its own, which keeps other users of the disk from
// holding up a cluster whose members talk by the half second. What is mounted below goes with it.
func inMemory(t *testing.T, dir string, size int) string {
	t.Helper()
	mount(t, dir, size)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error("tmpfs: ", err)
		}
	})
	return dir
}

func mount(t *testing.T, dir string, size int) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		t.Fatal("tmpfs: ", err)
	}
}

func (k *cluster) addCoordinators(n int) {
	k.t.Helper()
	var join []string
	for i := range n {
		m := k.member(k.net.host(), fmt.Sprintf("c%d", i), "coordinator")
		m.onSmallDisk(k.t)
		k.coords = append(k.coords, m)
		m.start(join...)
		k.connect()
		if i == 0 && n > 1 {
			join = []string{"--join", m.addr + ":7701", "--token", "@" + k.token(api.RoleServer)}
		}
	}
	eventually(k.t, "all coordinators vote", func() bool { return k.healthy() == n })
}

func (k *cluster) addAgents(n int, flags func(agent int) []string) {
	k.t.Helper()
	token := k.token(api.RoleNode)
	for i := range n {
		m := k.agent(k.net.host(), fmt.Sprintf("a%d", i))
		if flags != nil {
			m.args = append(m.args, flags(i)...)
		}
	}
	k.startAll(k.agents, "--join", k.coords[0].addr+":7701", "--token", "@"+token)
}

// agent adds one that has not started yet.
func (k *cluster) agent(on *host, name string, flags ...string) *member {
	m := k.member(on, name, "agent", append([]string{"--zone", name, "--on-stop", "kill", "--containerd", "off"}, flags...)...)
	k.agents = append(k.agents, m)
	return m
}

func (k *cluster) member(on *host, name, role string, args ...string) *member {
	dir := filepath.Join(k.dir, name)
	return &member{host: on, name: name, dir: dir, args: append([]string{role, "--data-dir", dir, "--name", name}, args...)}
}

// launch starts a member's process; more is for this start only.
func (m *member) launch(more ...string) (err error) {
	m.Process, err = process.Start(context.Background(), process.Config{Binary: binary, Args: append(slices.Clone(m.args), more...), Enter: m.enter})
	return err
}

func (m *member) start(more ...string) {
	m.t.Helper()
	if err := m.launch(more...); err != nil {
		m.t.Fatalf("%s: %v", m.name, err)
	}
}

// kill ends a member at once, as a power cut would.
func (m *member) kill() { m.t.Helper(); m.stop(syscall.SIGKILL) }

func (m *member) stop(sig syscall.Signal) {
	m.t.Helper()
	if err := m.End(sig); err != nil {
		m.t.Error(err)
	}
}

func (m *member) signal(sig syscall.Signal) {
	m.t.Helper()
	if err := m.Signal(sig); err != nil {
		m.t.Fatalf("%s: %v", m.name, err)
	}
}

// ingress is where an agent serves its users.
func (m *member) ingress() string { return "http://" + m.addr + ":7780" }

// url is where a coordinator serves its API.
func (m *member) url() string { return "https://" + m.addr + ":7700" }

// startAll starts members side by side.
func (k *cluster) startAll(members []*member, more ...string) {
	k.t.Helper()
	if err := sideBySide(members, func(m *member) error { return m.launch(more...) }); err != nil {
		k.t.Fatal(err)
	}
}

func sideBySide(members []*member, f func(*member) error) error {
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() { errs[i] = f(m) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// end stops everything, agents first, so that they can say goodbye and remove their containers.
func (k *cluster) end() {
	if k.t.Failed() {
		k.tell()
	}
	for _, list := range [][]*member{k.agents, k.coords} {
		err := sideBySide(list, func(m *member) error {
			if m.Process == nil {
				return nil
			}
			return m.End(syscall.SIGTERM)
		})
		if err != nil {
			k.t.Error(err)
		}
	}
	if k.api != nil {
		k.api.Close()
	}
}

// tell logs what a failure is understood from.
func (k *cluster) tell() {
	if k.api == nil {
		return
	}
	for _, args := range [][]string{{"status"}, {"workload", "list", "-o", "wide"}, {"event", "list"}} {
		out, errs, _ := k.cli.run(args...)
		k.t.Logf("%v\n%s%s", args, out, errs)
	}
	for _, m := range append(slices.Clone(k.coords), k.agents...) {
		if m.Process != nil {
			k.t.Logf("log of %s\n%s", m.name, m.Log())
		}
	}
}

// connect makes the clients of all coordinators, but for those given, with the first one's CA and
// admin token.
func (k *cluster) connect(but ...*member) {
	k.t.Helper()
	var urls []string
	for _, c := range k.coords {
		if !slices.Contains(but, c) {
			urls = append(urls, c.url())
		}
	}
	k.api, k.cli = k.dial(urls...), k.client(urls...)
}

// client is the command line with some addresses.
func (k *cluster) client(urls ...string) cli {
	return cli{k.t, []string{"CLOUDLESS_CONFIG=" + filepath.Join(k.dir, "config.yaml"), "CLOUDLESS_ADDRESS=" + strings.Join(urls, ","), "NO_COLOR=1",
		"CLOUDLESS_CA_CERT=" + filepath.Join(k.coords[0].dir, "ca.pem"), "CLOUDLESS_TOKEN=@" + filepath.Join(k.coords[0].dir, "admin.token")}}
}

// dial is the API client with some addresses. It does not retry: the tests do.
func (k *cluster) dial(urls ...string) *client.Client {
	k.t.Helper()
	ca, err := os.ReadFile(filepath.Join(k.coords[0].dir, "ca.pem"))
	if err != nil {
		k.t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(k.coords[0].dir, "admin.token"))
	if err != nil {
		k.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	c, err := client.New(client.Config{
		Addresses: urls, Token: strings.TrimSpace(string(token)), TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13},
		RetryFor: time.Nanosecond, RequestTimeout: 10 * time.Second,
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

// token makes a join token and keeps it in a file.
func (k *cluster) token(role api.Role) string {
	k.t.Helper()
	var made api.Token
	eventually(k.t, fmt.Sprintf("a %s token is made", role), func() bool {
		var err error
		made, err = k.api.CreateToken(context.Background(), api.TokenRequest{Role: role})
		return err == nil
	})
	path := filepath.Join(k.dir, string(role)+".token")
	if err := os.WriteFile(path, []byte(made.Secret), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return path
}

// healthy counts the coordinators that vote and answer where they are, if there is a leader.
func (k *cluster) healthy() int {
	st, err := k.api.Status(context.Background(), 0, 0)
	if err != nil || st.Leader == "" {
		return 0
	}
	n := 0
	for _, m := range st.Coordinators {
		if c := find(k.coords, m.Name); m.Voter && m.Healthy && c != nil && m.HTTPAddr == c.url() {
			n++
		}
	}
	return n
}

// whole waits until every coordinator is a healthy voter and every agent a ready node.
func (k *cluster) whole() {
	k.t.Helper()
	eventually(k.t, "the cluster is whole", func() bool {
		st, err := k.api.Status(context.Background(), 0, 0)
		return err == nil && k.healthy() == len(k.coords) && st.Nodes[string(api.NodeReady)] == len(k.agents)
	})
}

// leader is the coordinator that leads.
func (k *cluster) leader() *member {
	k.t.Helper()
	var leader *member
	eventually(k.t, "there is a leader", func() bool {
		st, err := k.api.Status(context.Background(), 0, 0)
		if err != nil {
			return false
		}
		leader = find(k.coords, st.Leader)
		return leader != nil
	})
	return leader
}

func find(members []*member, name string) *member {
	for _, m := range members {
		if m.name == name {
			return m
		}
	}
	return nil
}

// node reads an agent's node.
func (k *cluster) node(m *member) api.Node {
	k.t.Helper()
	n, err := k.api.Node(context.Background(), m.Get("id"), 0, 0)
	if err != nil || n.Status == nil {
		k.t.Fatalf("node %s cannot be read: %v", m.name, err)
	}
	return n
}

// workload reads one of the default namespace; nil when that fails.
func (k *cluster) workload(name string) *api.WorkloadStatus {
	w, err := k.api.Workload(context.Background(), api.Ref{Namespace: api.DefaultNamespace, Name: name}, 0, 0)
	if err != nil {
		return nil
	}
	return w.Status
}

// home is the agent of a workload's only ready replica that counts, nil if there is not exactly one.
func (k *cluster) home(name string) *member {
	var home *member
	if st := k.workload(name); st != nil {
		for _, r := range st.Replicas {
			if r.Ready && !r.Orphan {
				if home != nil {
					return nil
				}
				home = find(k.agents, r.Node)
			}
		}
	}
	return home
}

// another is an agent that is not m.
func (k *cluster) another(m *member) *member {
	return k.agents[(slices.Index(k.agents, m)+1)%len(k.agents)]
}

// replicas names a workload's replicas, where they are and how often they were restarted.
func (k *cluster) replicas(name string) string {
	st := k.workload(name)
	if st == nil {
		return "unreadable"
	}
	var out []string
	for _, r := range st.Replicas {
		out = append(out, fmt.Sprintf("%s@%s restarts=%d orphan=%v", r.ID, r.Node, r.Restarts, r.Orphan))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// settled waits until a workload has n replicas, all ready, and no others.
func (k *cluster) settled(name string, n int) {
	k.t.Helper()
	eventually(k.t, fmt.Sprintf("%s has exactly %d replicas, all ready", name, n), func() bool {
		st := k.workload(name)
		return st != nil && len(st.Replicas) == n && st.Ready == n && !slices.ContainsFunc(st.Replicas, func(r api.ReplicaStatus) bool { return r.Orphan || !r.Ready })
	})
}

// answers tells whether a workload answers at an agent's ingress.
func answers(m *member, name string) bool {
	code, body := fetch(m.ingress(), name+".localhost", "/")
	return code == 200 && strings.Contains(body, "hello")
}

// served waits until a workload answers at an agent's ingress.
func (k *cluster) served(m *member, name string) {
	k.t.Helper()
	eventually(k.t, fmt.Sprintf("%s answers at %s", name, m.name), func() bool { return answers(m, name) })
}
