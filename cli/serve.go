package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/agent"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/manifest"
	"github.com/cloudless/cloudless/coordinator"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/internal/telemetry"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/oci"
	"github.com/cloudless/cloudless/sandbox/wasm"
	"github.com/cloudless/cloudless/web"
)

// shutdownTime bounds how long requests in flight may take when a role stops.
const shutdownTime = 5 * time.Second

// maxConns bounds the connections of the API, and those of a metrics port. One of TLS takes some
// 50 KB; people, scripts and dashboards have one or two each.
const maxConns = 1024

// closers releases what was opened, in reverse order, once.
type closers struct {
	once sync.Once
	list []func() error
}

func (c *closers) add(f func() error) { c.list = append(c.list, f) }

func (c *closers) close() (err error) {
	c.once.Do(func() {
		for i := len(c.list) - 1; i >= 0; i-- {
			err = errors.Join(err, c.list[i]())
		}
	})
	return err
}

// coordinatorRole is a coordinator with its REST API and metrics port.
type coordinatorRole struct {
	closers
	tel     *telemetry.Telemetry
	cert    *apiCertificate // nil in dev, which speaks plain HTTP
	server  *coordinator.Server
	http    string // URL
	node    string
	metrics string
}

// Done is closed when the coordinator can no longer serve.
func (r *coordinatorRole) Done() <-chan struct{} { return r.server.Done() }

// agentRole is an agent with its metrics port.
type agentRole struct {
	closers
	tel        *telemetry.Telemetry
	agent      *agent.Agent
	ingressTLS *atomic.Pointer[tls.Config] // nil without --ingress-tls
	node       string
	ingress    string // URL
	metrics    string
}

// Done is closed when the agent can no longer serve.
func (r *agentRole) Done() <-chan struct{} { return r.agent.Done() }

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	label, _, _ := strings.Cut(strings.ToLower(name), ".")
	return label
}

// outboundHost is this machine's address towards its default route. Nothing is sent: connecting a
// UDP socket only looks the route up.
func outboundHost() string {
	conn, err := new(net.Dialer).DialContext(context.Background(), "udp", "192.0.2.1:9")
	if err != nil {
		return "127.0.0.1"
	}
	defer conn.Close()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return "127.0.0.1"
	}
	return host
}

// listen binds an address. With port 0 the port of the last start, kept in the data folder, is tried
// first, so that others find this role where it was.
func listen(dir, name, addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, usageError("--%s: %q is not HOST:PORT", name, addr)
	}
	file := filepath.Join(dir, "ports", name)
	if port == "0" {
		if kept, err := os.ReadFile(file); err == nil {
			if ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(host, strings.TrimSpace(string(kept)))); err == nil {
				return ln, nil
			}
		}
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, &api.Error{Code: api.CodeConflict, Op: "cannot open --" + name, Message: err.Error(), Hint: "choose another address with --" + name, Err: err}
	}
	if port != "0" {
		return ln, nil
	}
	_, got, _ := net.SplitHostPort(ln.Addr().String()) // it is a TCP address
	if err := errors.Join(datadir.Make(filepath.Dir(file)), datadir.WriteFile(file, []byte(got))); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// gossipAddr resolves port 0 like listen does. It binds the port for a moment, so that one that is
// taken is told before anything is written; Serf then binds TCP and UDP itself.
func gossipAddr(dir, addr string) (string, error) {
	ln, err := listen(dir, "gossip-addr", addr)
	if err != nil {
		return "", err
	}
	if _, port, _ := net.SplitHostPort(addr); port != "0" {
		return addr, ln.Close()
	}
	return ln.Addr().String(), ln.Close()
}

func portOf(ln net.Listener) string {
	_, port, _ := net.SplitHostPort(ln.Addr().String()) // it is a TCP address
	return port
}

// serveHTTP serves until closed.
func (c *closers) serveHTTP(ln net.Listener, h http.Handler, cfg *tls.Config, tel *telemetry.Telemetry) {
	if cfg != nil {
		ln = tls.NewListener(ln, cfg)
	}
	base, cancel := context.WithCancel(context.Background())
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: api.MaxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return base },
	}
	link.Limit(srv, maxConns)
	g := run.New(context.Background())
	g.Go("http", func(context.Context) error {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	c.add(func() error {
		cancel() // streams end
		ctx, done := context.WithTimeout(context.Background(), shutdownTime)
		defer done()
		if err := srv.Shutdown(ctx); err != nil {
			tel.Log.Debug().Err(err).Msg("requests cut off")
			return errors.Join(srv.Close(), g.Wait())
		}
		return g.Wait()
	})
}

// prepare is how every role begins: its folder, what its settings leave out, its telemetry. In dev
// metrics carry the role's name, since one process has several.
func (e *Env) prepare(c *closers, role string, o *commonOptions, dev bool) (*telemetry.Telemetry, error) {
	if o.DataDir == "" {
		return nil, usageError("--data-dir is needed")
	}
	if err := datadir.Make(o.DataDir); err != nil {
		return nil, err
	}
	release, err := datadir.Lock(o.DataDir)
	if err != nil {
		return nil, err
	}
	c.add(release)
	if o.Name == "" {
		o.Name = hostName()
	}
	if o.Advertise == "" {
		o.Advertise = outboundHost()
	}
	node := ""
	if dev {
		node = o.Name
	}
	tel, err := telemetry.New(telemetry.Config{
		Role: role, Node: node, Version: version(), LogWriter: e.Err, LogLevel: o.LogLevel, OTLPEndpoint: o.OTLPEndpoint, OTLPSampling: o.OTLPSampling,
	})
	if err != nil {
		return nil, err
	}
	c.add(func() error { return tel.Close(context.Background()) })
	return tel, nil
}

// backend gives web.Backend the two methods whose types only this package may join.
type backend struct{ *coordinator.Server }

func (b backend) PutWorkload(ctx context.Context, c api.Caller, w api.Workload, mode web.PutMode, ifMatch uint64) (api.WriteResult, error) {
	return b.Server.PutWorkload(ctx, c, w, mode == web.PutCreate, ifMatch)
}

func (b backend) Exec(ctx context.Context, c api.Caller, ns, name, replica string, command []string, tty, stdin bool) (web.ExecConn, error) {
	s, err := b.Server.Exec(ctx, c, ns, name, replica, command, tty, stdin)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// openCoordinator starts a coordinator with its ports. plain serves the API without TLS (dev).
func (e *Env) openCoordinator(ctx context.Context, o coordinatorOptions, token string, plain bool) (r *coordinatorRole, err error) {
	r = &coordinatorRole{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	tel, err := e.prepare(&r.closers, "coordinator", &o.commonOptions, plain)
	if err != nil {
		return r, err
	}
	r.tel = tel
	metrics, err := r.listenMetrics(o.DataDir, o.MetricsAddr)
	if err != nil {
		return r, err
	}
	nodeLn, err := listen(o.DataDir, "node-addr", o.NodeAddr)
	if err != nil {
		return r, err
	}
	httpLn, err := listen(o.DataDir, "http-addr", o.HTTPAddr)
	if err != nil {
		return r, errors.Join(err, nodeLn.Close())
	}
	gossip, err := gossipAddr(o.DataDir, o.GossipAddr)
	if err != nil {
		return r, errors.Join(err, nodeLn.Close(), httpLn.Close())
	}
	scheme := "https://"
	if plain {
		scheme = "http://"
	}
	r.node, r.http = net.JoinHostPort(o.Advertise, portOf(nodeLn)), scheme+net.JoinHostPort(o.Advertise, portOf(httpLn))
	r.server, err = coordinator.Open(ctx, coordinator.Config{
		DataDir: o.DataDir, Name: o.Name, Listener: nodeLn, AdvertiseNode: r.node, AdvertiseHTTP: r.http, GossipAddr: gossip,
		AdvertiseHost: o.Advertise, Join: o.Join, Token: token, Version: version(), Tel: tel, Log: tel.Log,
	})
	if err != nil {
		return r, errors.Join(err, httpLn.Close())
	}
	r.add(r.server.Close)
	tel.AddCheck("leader", true, r.server.Ready)
	h := web.New(web.Config{
		Backend: backend{r.server}, Log: tel.Log, Metrics: tel.Handler(), Health: tel.Health(), Ready: tel.Ready(), Schema: manifest.Schema(), Dev: plain, Version: version(),
	})
	var cfg *tls.Config
	if !plain {
		r.cert = &apiCertificate{make: r.server.APICertificate, always: []string{"localhost", "127.0.0.1", "::1", hostName(), o.Advertise, hostOf(o.HTTPAddr)}}
		r.cert.hosts(o.TLSSAN)
		cfg = pki.APIServerConfig(r.cert.get)
	}
	r.serveHTTP(httpLn, tel.TraceHTTP("api", h), cfg, tel)
	r.metrics = r.serveMetrics(metrics, tel)
	return r, nil
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host == "" || host == "0.0.0.0" || host == "::" {
		return "localhost"
	}
	return host
}

// listenMetrics binds the metrics port before the role opens, so that a start that fails for it has
// changed nothing; nil if it is off.
func (c *closers) listenMetrics(dir, addr string) (net.Listener, error) {
	if addr == "" || addr == "off" {
		return nil, nil
	}
	ln, err := listen(dir, "metrics-addr", addr)
	if err != nil {
		return nil, err
	}
	c.add(func() error { return quiet(ln.Close()) })
	return ln, nil
}

func (c *closers) serveMetrics(ln net.Listener, tel *telemetry.Telemetry) string {
	if ln == nil {
		return ""
	}
	c.serveHTTP(ln, tel.ServeMux(), nil, tel)
	return "http://" + ln.Addr().String()
}

func (e *Env) serveCoordinator(ctx context.Context, from source[coordinatorOptions]) error {
	hangups, stop := catchHangups()
	defer stop()
	o, err := from.load()
	if err != nil {
		return err
	}
	token, err := e.joinToken(o.commonOptions)
	if err != nil {
		return err
	}
	r, err := e.openCoordinator(ctx, o, token, false)
	if err != nil {
		return err
	}
	if r.server.Alone() { // it leads at once, and its admin token is to work when the line is out
		if err := awaitReady(ctx, r); err != nil {
			return errors.Join(err, r.close())
		}
	}
	if err := e.printReady(readyLine{ID: r.server.ID(), HTTP: r.http, Node: r.node, Gossip: r.server.GossipAddr(), Metrics: r.metrics}); err != nil {
		return errors.Join(err, r.close())
	}
	return errors.Join(until(ctx, hangups, func() { o = from.reload(o, r.tel.Log, r.reload) }, r), r.close())
}

func (e *Env) printReady(l readyLine) error {
	l.Ready = true
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.Out, string(data))
	return err
}

func parseTaints(list []string) ([]api.Taint, error) {
	var out []api.Taint
	for _, s := range list {
		kv, effect, ok := strings.Cut(s, ":")
		if !ok {
			return nil, usageError("--taint: %q is not KEY=VALUE:NoSchedule or KEY:NoSchedule", s)
		}
		k, v, _ := strings.Cut(kv, "=")
		out = append(out, api.Taint{Key: k, Value: v, Effect: effect})
	}
	return out, api.ValidateTaints("--taint", out).Err()
}

func parseReserve(text string) (r api.Reserved, err error) {
	if text == "" {
		return r, nil
	}
	for _, s := range strings.Split(text, ",") {
		k, v, _ := strings.Cut(s, "=")
		switch k {
		case "cpu":
			r.CPU, err = api.ParseMilliCPU(v)
		case "memory":
			r.Memory, err = api.ParseBytes(v)
		case "storage":
			r.Storage, err = api.ParseBytes(v)
		default:
			err = fmt.Errorf("%q is not cpu, memory or storage", k)
		}
		if err != nil {
			return r, usageError("--reserve: %v", err)
		}
	}
	return r, nil
}

// agentConfig turns settings into the agent's own.
func (e *Env) agentConfig(o agentOptions, token string, tel *telemetry.Telemetry) (cfg agent.Config, err error) {
	s, err := o.settings()
	if err != nil {
		return cfg, err
	}
	return agent.Config{
		DataDir: o.DataDir, Name: o.Name, Region: o.Region, Zone: o.Zone, Labels: s.Labels, Taints: s.Taints, Reserve: s.Reserve, AdvertiseHost: o.Advertise,
		Join: o.Join, Token: token, Version: version(), OnStop: s.OnStop, Tel: tel, Log: tel.Log,
	}, nil
}

// drivers makes the sandboxes of a node.
func (e *Env) drivers(o agentOptions, ports []int, tel *telemetry.Telemetry) func(agent.Identity) (map[api.Variant]sandbox.Driver, error) {
	return func(id agent.Identity) (map[api.Variant]sandbox.Driver, error) {
		w, err := wasm.New(wasm.Config{CacheDir: filepath.Join(o.DataDir, "wasm-cache"), Log: tel.Log})
		if err != nil {
			return nil, err
		}
		dir, err := filepath.Abs(o.DataDir)
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err := oci.Open(ctx, oci.Config{Mode: o.Containerd, DataDir: dir, NodeID: id.ID, Cluster: id.ClusterID, DenyPorts: ports, Log: tel.Log})
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		return map[api.Variant]sandbox.Driver{api.VariantWasm: w, api.VariantContainer: c}, nil
	}
}

// clusterPorts lists the ports that containers may not reach: the coordinators' standard ones and
// this node's own.
func clusterPorts(addrs ...string) []int {
	ports := []int{7700, 7701, 7702, 7711, 7712, 9090, 9091}
	for _, a := range addrs {
		_, text, _ := net.SplitHostPort(a) // addresses that were bound, or "" and "off"
		if p, err := strconv.Atoi(text); err == nil && p != 0 && !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	return ports
}

// openAgent starts an agent with its ports. publish is the host of published tcp ports; "" for none.
func (e *Env) openAgent(ctx context.Context, o agentOptions, token, publish string, dev bool) (r *agentRole, err error) {
	r = &agentRole{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	tel, err := e.prepare(&r.closers, "agent", &o.commonOptions, dev)
	if err != nil {
		return r, err
	}
	r.tel = tel
	cfg, err := e.agentConfig(o, token, tel)
	if err != nil {
		return r, err
	}
	metrics, err := r.listenMetrics(o.DataDir, o.MetricsAddr)
	if err != nil {
		return r, err
	}
	cfg.PublishHost = publish
	if cfg.Listener, err = listen(o.DataDir, "node-addr", o.NodeAddr); err != nil {
		return r, err
	}
	plain, err := listen(o.DataDir, "ingress-addr", o.IngressAddr)
	if err != nil {
		return r, errors.Join(err, cfg.Listener.Close())
	}
	scheme := "http://"
	if cfg.Ingress = plain; o.IngressTLS != "" {
		scheme = "https://"
		pair, err := pairConfig(o.IngressTLS)
		if err != nil {
			return r, errors.Join(err, plain.Close(), cfg.Listener.Close())
		}
		r.ingressTLS = &atomic.Pointer[tls.Config]{}
		r.ingressTLS.Store(pair)
		cfg.Ingress = withTLS(plain, r.ingressTLS)
	}
	if cfg.GossipAddr, err = gossipAddr(o.DataDir, o.GossipAddr); err != nil {
		return r, errors.Join(err, plain.Close(), cfg.Listener.Close())
	}
	r.node, r.ingress = net.JoinHostPort(o.Advertise, portOf(cfg.Listener)), scheme+net.JoinHostPort(o.Advertise, portOf(plain))
	cfg.Drivers = e.drivers(o, clusterPorts(cfg.Listener.Addr().String(), cfg.GossipAddr, o.MetricsAddr), tel)
	if r.agent, err = agent.Open(ctx, cfg); err != nil {
		return r, errors.Join(err, quiet(plain.Close()))
	}
	r.add(r.agent.Close)
	r.metrics = r.serveMetrics(metrics, tel)
	return r, nil
}

// quiet drops the error of closing what may be closed already.
func quiet(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (e *Env) serveAgent(ctx context.Context, from source[agentOptions]) error {
	hangups, stop := catchHangups()
	defer stop()
	o, err := from.load()
	if err != nil {
		return err
	}
	token, err := e.joinToken(o.commonOptions)
	if err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(o.IngressAddr) // checked when it is bound
	r, err := e.openAgent(ctx, o, token, orAll(host), false)
	if err != nil {
		return err
	}
	if err := e.printReady(readyLine{ID: r.agent.ID(), Node: r.node, Gossip: r.agent.GossipAddr(), Metrics: r.metrics, Ingress: r.ingress}); err != nil {
		return errors.Join(err, r.close())
	}
	return errors.Join(until(ctx, hangups, func() { o = from.reload(o, r.tel.Log, r.reload) }, r), r.close())
}

func orAll(host string) string {
	if host == "" {
		return "0.0.0.0"
	}
	return host
}
