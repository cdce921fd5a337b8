package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/agent"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/telemetry"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/egress"
	"github.com/cloudless/cloudless/sandbox/oci"
	"github.com/cloudless/cloudless/sandbox/wasm"
)

// This file joins the parts of an agent; serve.go does so for a coordinator.

// agentRole is an agent with its metrics port.
type agentRole struct {
	closers
	tel         *telemetry.Telemetry
	agent       *agent.Agent
	ingress, s3 publicListener
	node        string
	metrics     string
}

// publicListener is a port for strangers, in plain HTTP or, if there is a certificate, by HTTPS.
type publicListener struct {
	net.Listener
	url  string                      // "" for one that is off
	flag string                      // of the certificate
	tls  *atomic.Pointer[tls.Config] // nil: plain
}

// listenPublic binds the port that a flag names; pair is what --WHAT-tls gives.
func (c *closers) listenPublic(o *agentOptions, what, addr, pair string) (p publicListener, err error) {
	p.flag = what + "-tls"
	plain, err := listen(o.DataDir, what+"-addr", addr)
	if err != nil {
		return p, err
	}
	c.add(func() error { return quiet(plain.Close()) })
	p.Listener, p.url = plain, "http://"+net.JoinHostPort(o.Advertise, portOf(plain))
	if pair == "" {
		return p, nil
	}
	cfg, err := pairConfig(p.flag, pair)
	if err != nil {
		return p, err
	}
	p.tls = &atomic.Pointer[tls.Config]{}
	p.tls.Store(cfg)
	p.Listener, p.url = withTLS(plain, p.tls), "https://"+net.JoinHostPort(o.Advertise, portOf(plain))
	return p, nil
}

// Done is closed when the agent can no longer serve.
func (r *agentRole) Done() <-chan struct{} { return r.agent.Done() }

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

// storageAuto leaves the capacity of a node's store to its disk.
const storageAuto = "auto"

// minStorage is the least capacity of a store: less holds no segment and the reserve.
const minStorage = api.Bytes(1 << 30)

// devReserve is what each of dev's stores keeps for a full disk: there may be many, on a disk in memory.
const devReserve = 32 << 20

func (o *agentOptions) storage() (s agent.Storage, err error) {
	if s.Sharing = o.sharing; s.Sharing > 0 {
		s.Reserve = devReserve
	}
	text := o.Storage
	if text == storageAuto {
		return s, nil
	}
	n, err := api.ParseBytes(text)
	switch {
	case err != nil:
		return s, usageError("--storage-capacity: %v, and not %q", err, storageAuto)
	case n == 0:
		s.Off = true
	case n < minStorage:
		return s, usageError("--storage-capacity: %s is less than %s", text, minStorage)
	}
	s.Capacity = int64(n)
	return s, nil
}

// agentConfig turns settings into the agent's own.
func (e *Env) agentConfig(o agentOptions, token string, tel *telemetry.Telemetry) (cfg agent.Config, err error) {
	s, err := o.settings()
	if err != nil {
		return cfg, err
	}
	storage, err := o.storage()
	if err != nil {
		return cfg, err
	}
	return agent.Config{
		Storage: storage,
		DataDir: o.DataDir, Name: o.Name, Region: o.Region, Zone: o.Zone, Labels: s.Labels, Taints: s.Taints, Reserve: s.Reserve, AdvertiseHost: o.Advertise,
		Join: o.Join, Token: token, Version: version(), OnStop: s.OnStop, AccessLog: o.AccessLog, Tel: tel, Log: tel.Log,
	}, nil
}

// drivers makes the sandboxes of a node.
func (e *Env) drivers(o agentOptions, ports []int, tel *telemetry.Telemetry) func(agent.Identity, func() []netip.AddrPort) (map[api.Variant]sandbox.Driver, error) {
	return func(id agent.Identity, machines func() []netip.AddrPort) (map[api.Variant]sandbox.Driver, error) {
		w, err := wasm.New(wasm.Config{
			CacheDir: filepath.Join(o.DataDir, "wasm-cache"), Log: tel.Log, Network: egress.Network{Own: egress.OwnPorts(ports, machines)},
		})
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
	if r.ingress, err = r.listenPublic(&o, "ingress", o.IngressAddr, o.IngressTLS); err == nil && o.S3Addr != "off" {
		r.s3, err = r.listenPublic(&o, "s3", o.S3Addr, o.S3TLS)
	}
	if err == nil {
		cfg.GossipAddr, err = gossipAddr(o.DataDir, o.GossipAddr)
	}
	if err != nil {
		return r, errors.Join(err, cfg.Listener.Close())
	}
	cfg.Ingress, cfg.S3, cfg.S3Domains = r.ingress.Listener, r.s3.Listener, o.S3Domains
	r.node = net.JoinHostPort(o.Advertise, portOf(cfg.Listener))
	cfg.Drivers = e.drivers(o, clusterPorts(cfg.Listener.Addr().String(), cfg.GossipAddr, o.MetricsAddr), tel)
	if r.agent, err = agent.Open(ctx, cfg); err != nil {
		return r, err
	}
	r.add(r.agent.Close)
	r.metrics = r.serveMetrics(metrics, tel)
	return r, nil
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
	if err := e.printReady(readyLine{ID: r.agent.ID(), Node: r.node, Gossip: r.agent.GossipAddr(), Metrics: r.metrics, Ingress: r.ingress.url, S3: r.s3.url}); err != nil {
		return errors.Join(err, r.close())
	}
	return errors.Join(until(ctx, hangups, func() { o = from.reload(o, r.tel.Log, r.reload) }, r), r.close())
}
