package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// devOptions are the settings of 'cloudless dev'.
type devOptions struct {
	dataDir                                                          string
	httpAddr, nodeAddr, gossipAddr, metricsAddr, ingressAddr, s3Addr string
	containerd                                                       string
	storage                                                          string
	logLevel                                                         string
	agents                                                           int
	ephemeral                                                        bool
}

// maxDevAgents bounds the agents of one development cluster.
const maxDevAgents = 32

func devCommand(e *Env) *cobra.Command {
	o := devOptions{}
	c := &cobra.Command{
		Use: "dev", Short: "Run a whole cluster in this process, on loopback",
		Long: "Run a whole cluster in this process: a coordinator, agents and the dashboard, the same code as in production, on loopback only and in plain text.\nIt writes context 'dev', so that other commands find it, and prints where it is. Ctrl-C stops it.",
		Example: `  cloudless dev
  cloudless dev --agents 3 --ephemeral
  cloudless dev -o json --http-addr 127.0.0.1:0 --ingress-addr 127.0.0.1:0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.dev(cmd.Context(), o) },
	}
	f := c.Flags()
	f.IntVar(&o.agents, "agents", 1, "number of agents")
	f.StringVar(&o.dataDir, "data-dir", "", "folder for the cluster's state (default: under the user's cache)")
	f.BoolVar(&o.ephemeral, "ephemeral", false, "use a throw-away folder")
	f.StringVar(&o.httpAddr, "http-addr", "127.0.0.1:7700", "address of the REST API and dashboard")
	f.StringVar(&o.nodeAddr, "node-addr", "127.0.0.1:7701", "address of the coordinator's mTLS port")
	f.StringVar(&o.gossipAddr, "gossip-addr", "127.0.0.1:7702", "address of the coordinator's gossip")
	f.StringVar(&o.metricsAddr, "metrics-addr", "127.0.0.1:9090", "address of the coordinator's metrics")
	f.StringVar(&o.ingressAddr, "ingress-addr", "127.0.0.1:7780", "address of the first agent's ingress")
	f.StringVar(&o.s3Addr, "s3-addr", "127.0.0.1:7790", "address of the first agent's S3 API")
	f.StringVar(&o.storage, "storage-capacity", storageAuto, "how much the object store of each agent may use of the disk: auto, or a number of bytes such as 20Gi")
	f.StringVar(&o.containerd, "containerd", "auto", "auto, off, private or the address of a daemon's socket")
	f.StringVar(&o.logLevel, "log-level", "warn", "debug, info, warn or error")
	return c
}

func (o *devOptions) check() error {
	for _, bind := range [][2]string{
		{"http-addr", o.httpAddr}, {"node-addr", o.nodeAddr}, {"gossip-addr", o.gossipAddr}, {"metrics-addr", o.metricsAddr}, {"ingress-addr", o.ingressAddr}, {"s3-addr", o.s3Addr},
	} {
		flag, addr := bind[0], bind[1]
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return usageError("--%s: %q is not HOST:PORT", flag, addr)
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return usageError("--%s: %q is not on loopback: dev speaks plain text and so listens nowhere else", flag, addr).WithHint("use 127.0.0.1, or 'cloudless coordinator' and 'cloudless agent', which use TLS")
		}
	}
	if o.agents < 1 || o.agents > maxDevAgents {
		return usageError("--agents: %d is not between 1 and %d", o.agents, maxDevAgents)
	}
	return nil
}

// folder is where the cluster's state lives, and how to clean it up.
func (o *devOptions) folder() (string, func() error, error) {
	switch {
	case o.ephemeral:
		dir, err := os.MkdirTemp("", "cloudless-dev-*")
		return dir, func() error { return os.RemoveAll(dir) }, err
	case o.dataDir != "":
		dir, err := filepath.Abs(o.dataDir)
		return dir, func() error { return nil }, err
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "cloudless", "dev"), func() error { return nil }, err
}

// dev runs the cluster until ctx ends.
func (e *Env) dev(ctx context.Context, o devOptions) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	if _, err := e.loadContexts(); err != nil {
		return err // it is to be written in the end
	}
	dir, cleanup, err := o.folder()
	if err != nil {
		return err
	}
	hangups, stop := catchHangups()
	defer stop()
	var all closers
	all.add(cleanup)
	defer func() { err = errors.Join(err, all.close()) }()
	co := defaultCoordinator()
	co.DataDir, co.Name, co.HTTPAddr, co.NodeAddr, co.GossipAddr, co.MetricsAddr = filepath.Join(dir, "coordinator"), "dev", o.httpAddr, o.nodeAddr, o.gossipAddr, o.metricsAddr
	co.Advertise, co.LogLevel = "127.0.0.1", o.logLevel
	c, err := e.openCoordinator(ctx, co, "", true)
	if err != nil {
		return err
	}
	all.add(c.close)
	if err := awaitReady(ctx, c); err != nil {
		return err
	}
	roles := []interface{ Done() <-chan struct{} }{c}
	ready := readyLine{HTTP: c.http}
	for i := 1; i <= o.agents; i++ {
		a, err := e.devAgent(ctx, o, dir, i, c)
		if err != nil {
			return err
		}
		all.add(a.close)
		c.tel.Include(a.tel)
		roles = append(roles, a)
		if i == 1 {
			ready.Ingress, ready.S3 = a.ingress.url, a.s3.url
		}
	}
	token, err := os.ReadFile(filepath.Join(co.DataDir, "admin.token"))
	if err != nil {
		return err
	}
	if err := awaitNodes(ctx, c, o.agents, dir); err != nil {
		return err
	}
	if err := o.awaitStore(ctx, c); err != nil {
		return err
	}
	ready.Token = strings.TrimSpace(string(token))
	if ready.S3 != "" {
		if ready.S3AccessKey, ready.S3SecretKey, err = devS3Key(ctx, c.server, filepath.Join(dir, fileDevS3)); err != nil {
			return err
		}
	}
	if err := e.announce(ready, dir, o); err != nil {
		return err
	}
	return until(ctx, hangups, func() { e.say("dev has no settings to reload") }, roles...)
}

// devAgent starts agent number i; the first one has the ports that the flags name.
func (e *Env) devAgent(ctx context.Context, o devOptions, dir string, i int, c *coordinatorRole) (*agentRole, error) {
	name := devName(i)
	ao := defaultAgent()
	ao.DataDir, ao.Name, ao.Region, ao.Zone = filepath.Join(dir, "agents", name), name, "dev", name
	ao.NodeAddr, ao.GossipAddr, ao.IngressAddr, ao.MetricsAddr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	ao.S3Addr = "127.0.0.1:0"
	ao.Advertise, ao.LogLevel, ao.Containerd, ao.OnStop = "127.0.0.1", o.logLevel, o.containerd, "kill"
	ao.Storage, ao.sharing = o.storage, o.agents
	publish := ""
	if i == 1 {
		ao.IngressAddr, ao.S3Addr, publish = o.ingressAddr, o.s3Addr, "127.0.0.1"
	}
	ao.Join = []string{c.node}
	token := ""
	if _, err := os.Stat(filepath.Join(ao.DataDir, "identity.json")); err != nil {
		t, err := c.server.CreateToken(ctx, api.Caller{Role: api.RoleAdmin, TokenID: "dev"}, api.TokenRequest{Role: api.RoleNode, Uses: 1, Name: name, TTL: api.Duration(time.Minute)})
		if err != nil {
			return nil, err
		}
		token = t.Secret
	}
	return e.openAgent(ctx, ao, token, publish, true)
}

// awaitReady blocks until the coordinator leads and has founded its cluster.
func awaitReady(ctx context.Context, c *coordinatorRole) error {
	for c.server.Ready(ctx) != nil {
		if err := run.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// awaitNodes blocks until that many nodes are ready.
func awaitNodes(ctx context.Context, c *coordinatorRole, want int, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		l, err := c.server.Nodes(ctx, api.ListQuery{})
		if err != nil {
			return err
		}
		absent := notReady(l.Items, want)
		if len(absent) == 0 {
			return nil
		}
		if err := run.Sleep(ctx, 20*time.Millisecond); err != nil {
			return unready(l.Items, absent, dir)
		}
	}
}

// devName is the name of agent number i.
func devName(i int) string { return fmt.Sprintf("dev-%d", i) }

// notReady names those of dev's agents that are not ready.
func notReady(nodes []api.Node, agents int) (names []string) {
	for i := 1; i <= agents; i++ {
		ready := func(n api.Node) bool {
			return n.Name == devName(i) && n.Liveness == api.NodeReady && n.Status.Connected
		}
		if !slices.ContainsFunc(nodes, ready) {
			names = append(names, devName(i))
		}
	}
	return names
}

// unready says what to do about the first agent that did not become ready: one that the cluster does not
// know was removed, and its folder holds a certificate that is refused from then on.
func unready(nodes []api.Node, names []string, dir string) error {
	err := api.Errorf(api.CodeTimeout, "not ready: %s", strings.Join(names, ", "))
	for _, name := range names {
		if !slices.ContainsFunc(nodes, func(n api.Node) bool { return n.Name == name }) {
			return err.WithHint("%s was removed from the cluster: delete its folder %s, and it joins anew", name, filepath.Join(dir, "agents", name))
		}
	}
	return err.WithHint("the log says more with --log-level info")
}

// awaitStore blocks until objects can be stored, unless the agents were told to keep none.
func (o *devOptions) awaitStore(ctx context.Context, c *coordinatorRole) error {
	if s, err := (&agentOptions{Storage: o.storage}).storage(); err != nil || s.Off {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := c.server.TakesObjects(ctx)
		if err == nil {
			return nil
		}
		if run.Sleep(ctx, 10*time.Millisecond) != nil {
			return api.Errorf(api.CodeTimeout, "the object store takes nothing yet: %w", err).WithHint("the log says more with --log-level info")
		}
	}
}

// announce writes the context and says where the cluster is.
func (e *Env) announce(ready readyLine, dir string, o devOptions) error {
	tokenFile := filepath.Join(dir, "coordinator", "admin.token")
	contexts, err := e.loadContexts()
	if err != nil {
		return err
	}
	contexts.Set(Context{Name: "dev", Address: ready.HTTP, Token: "@" + tokenFile, Dev: true})
	note := ""
	if cur, ok := contexts.Get(contexts.Current); contexts.Current == "" || !ok || cur.Dev {
		contexts.Current = "dev"
	} else {
		note = fmt.Sprintf("The current context stays %q; use '--context dev' or 'cloudless context use dev'.", contexts.Current)
	}
	if err := contexts.Save(); err != nil {
		return err
	}
	if e.flags.output == "json" {
		if note != "" {
			e.say("%s", note)
		}
		return e.printReady(ready)
	}
	s3 := ""
	if ready.S3 != "" {
		s3 = fmt.Sprintf("  S3 API             %s  (keys in %s)\n", ready.S3, filepath.Join(dir, fileDevS3))
	}
	_, err = fmt.Fprintf(e.Out, "A cluster of %d agent(s) is up.\n  API and dashboard  %s/ui/\n  workloads          %s  (by Host: NAME.localhost)\n%s  token              %s\nDeploy something: cloudless workload run FILE.wasm --name hi --wait\n%s",
		o.agents, ready.HTTP, ready.Ingress, s3, tokenFile, line(note))
	return err
}

func line(s string) string {
	if s == "" {
		return ""
	}
	return s + "\n"
}
