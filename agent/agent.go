// Package agent is one node of the cluster: it keeps a session with every coordinator, runs the
// replicas it is assigned, and serves its ingress, with coordinators in sight or without.
//
// Start at Agent and Open. session.go is the conversation with one coordinator; intake.go turns what
// is heard into actions (by converge, purely) and hands them to supervise; reports.go tells the
// coordinators how replicas fare; nodeapi.go is what others may ask of this node.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/agent/ingress"
	"github.com/cloudless/cloudless/agent/ledger"
	"github.com/cloudless/cloudless/agent/supervise"
	"github.com/cloudless/cloudless/agent/volume"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/internal/telemetry"
	"github.com/cloudless/cloudless/sandbox"
)

// What a stop does with what runs here.
const (
	OnStopRestart = "restart" // ends wasm replicas and leaves containers, to be adopted by the next start
	OnStopDrain   = "drain"   // moves everything away first
	OnStopKill    = "kill"    // ends everything
)

// Config is what one agent needs to know. Listener is its mTLS port and Ingress its HTTP port, both
// already bound, as is S3; PublishHost is where published tcp ports listen, "" to publish none.
type Config struct {
	DataDir       string
	Name          string
	Region, Zone  string
	Labels        map[string]string
	Taints        []api.Taint
	Reserve       api.Reserved // kept back from workloads
	Listener      net.Listener
	Ingress       net.Listener
	S3            net.Listener // nil: no S3 door here
	S3Domains     []string     // under which buckets have host names
	PublishHost   string
	AdvertiseHost string
	GossipAddr    string
	Join          []string
	Token         string
	Version       string
	OnStop        string // one of the OnStop values; "" is OnStopRestart
	AccessLog     bool   // a line in the log for each request of the ingress
	Storage       Storage
	Tel           *telemetry.Telemetry
	Log           zerolog.Logger
	NetDial       link.NetDial     // nil: the machine's network
	GossipNet     gossip.Transport // nil: the machine's network, at GossipAddr
	// Drivers makes the sandboxes. machines tells the cluster's ports that are known at the time.
	Drivers func(id Identity, machines func() []netip.AddrPort) (map[api.Variant]sandbox.Driver, error)
}

// Settings are what of a Config can change while the node runs.
type Settings struct {
	Labels  map[string]string
	Taints  []api.Taint
	Reserve api.Reserved
	OnStop  string
}

// Reload takes new settings. The coordinators learn of them with the next heartbeat; replicas that
// run stay where they are, labels and taints are for placing new ones.
func (a *Agent) Reload(s Settings) { a.settings.Store(&s) }

// Identity is who a node is; drivers name their things by it.
type Identity struct {
	ClusterID string `json:"clusterId"`
	ID        string `json:"id"`
	Name      string `json:"name"`
}

// Agent is one node.
type Agent struct {
	cfg   Config
	log   zerolog.Logger
	id    Identity
	key   string // gossip key, base64
	creds *pki.Credentials

	trustMu sync.Mutex    // one change of certificate, CAs or gossip keys at a time
	trusted atomic.Uint64 // index of the cluster's keys that were taken up
	ring    [][]byte      // gossip keys, the one in use first; under trustMu once serving

	drivers   map[api.Variant]sandbox.Driver
	artifacts *chunkstore.Files
	downloads downloads
	ledger    *ledger.Ledger
	sup       *supervise.Supervisor
	volumes   *volume.Manager
	ingress   *ingress.Ingress
	mux       *link.Mux
	dialer    *link.Dialer
	nodes     *link.NodeDialer
	gossip    *gossip.Gossip
	store     *store
	gateway   *gateway.Gateway // to the whole object store

	settings atomic.Pointer[Settings]
	measured atomic.Pointer[measurement]
	started  time.Time
	intake   *intake
	reports  *reporter
	sessions *sessions
	events   *eventSender
	table    tableBox
	stock    *stock
	disk     *diskWatch
	group    *run.Group
	stopOnce sync.Once
	stopErr  error
}

// Open starts a node: it enrols if its data folder is new, takes up what it ran before, and serves
// until Close.
func Open(ctx context.Context, cfg Config) (*Agent, error) {
	a := &Agent{cfg: cfg, log: cfg.Log, started: time.Now(), group: run.New(context.Background())}
	a.Reload(Settings{cfg.Labels, cfg.Taints, cfg.Reserve, cfg.OnStop})
	err := run.Steps(ctx, []run.Step{
		{What: "open the data folder", Do: a.openData},
		{What: "load or make the identity", Do: a.openIdentity},
		{What: "open the mTLS port", Do: a.openLink},
		{What: "open the sandboxes", Do: a.openSandboxes},
		{What: "open the chunk store", Do: a.openStore},
		{What: "start gossip", Do: a.openGossip},
		{What: "take up what ran before", Do: a.resume},
		{What: "serve", Do: a.serve},
	}, a.Close)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Agent) openData(context.Context) (err error) {
	if err := datadir.Make(a.cfg.DataDir); err != nil {
		return err
	}
	if a.ledger, err = ledger.Open(filepath.Join(a.cfg.DataDir, "ledger"), nil); err != nil {
		return err
	}
	a.artifacts, err = chunkstore.NewFiles(filepath.Join(a.cfg.DataDir, "artifacts"))
	return err
}

func (a *Agent) openLink(context.Context) error {
	a.mux = link.NewMux(a.cfg.Listener, a.creds, a.log)
	a.creds.SetVerifier(a.verifyPeer)
	a.dialer = &link.Dialer{Creds: a.creds, Net: a.cfg.NetDial, Peers: a.mux.Peers}
	a.sessions = newSessions(a)
	a.nodes = &link.NodeDialer{Dialer: a.dialer, Addr: a.table.addr, Relays: a.sessions.addrs, Observe: a.observeDial}
	return nil
}

func (a *Agent) openSandboxes(ctx context.Context) (err error) {
	drivers, err := a.cfg.Drivers(a.id, a.machines)
	if err != nil {
		return err
	}
	a.drivers = metered(drivers, a.cfg.Tel.Metrics)
	a.reports = newReporter(a)
	a.events = newEventSender(a)
	data := newGuestData(func() *gateway.Gateway { return a.gateway })
	if a.volumes, err = volume.Open(volume.Config{Dir: a.path("volumes"), Store: data, Tell: a.tellVolume, Log: a.log}); err != nil {
		return err
	}
	a.sup = supervise.New(supervise.Config{
		NodeID: a.id.ID, Cluster: a.id.ClusterID, Drivers: a.drivers, Fetch: a.fetch, Admit: a.admit, Ledger: a.ledger, Volumes: a.volumes, Storage: data,
		LogDir: filepath.Join(a.cfg.DataDir, "logs"), OnStatus: a.reports.add, OnEvent: a.events.add, Log: a.log,
		OnRestart: a.observeRestart, OnFailedProbe: a.observeFailedProbe,
	})
	a.ingress = ingress.New(ingress.Config{
		NodeID: a.id.ID, Zone: a.cfg.Zone, Region: a.cfg.Region, Local: a.sup, Dial: a.nodes.Dial, Log: a.log, Observe: a.observeTraffic, Access: a.accessLog(),
		OnPortRefused: a.tellPortRefused,
	})
	a.stock = newStock(a.artifacts, a.sup.Warm, a.volumes.Held)
	a.disk = &diskWatch{dir: a.cfg.DataDir, look: a.storage, failed: a.ledger.Failed, tell: a.tellDisk}
	a.ingress.PublishTCP(a.cfg.PublishHost, a.cfg.PublishHost != "")
	return nil
}

// tellPortRefused makes an event of a published port that another program on this machine has.
func (a *Agent) tellPortRefused(port int, err error) {
	a.events.add(api.Event{
		Time: time.Now().UTC(), Type: api.EventPortRefused, Severity: api.SeverityWarning, Resource: "node/" + a.id.Name, Node: a.id.ID,
		Message: fmt.Sprintf("port %d cannot be published on this node: %v; free it, or choose another number with 'publish:'", port, err),
	})
}

// tellVolume makes an event of what people should know of a volume.
func (a *Agent) tellVolume(kind string, severity api.Severity, resource, message string) {
	a.events.add(api.Event{Time: time.Now().UTC(), Type: kind, Severity: severity, Resource: resource, Node: a.id.ID, Message: message})
}

// accessLog writes a line for each request of the ingress; nil if none is wanted.
func (a *Agent) accessLog() func(ingress.Access) {
	if !a.cfg.AccessLog {
		return nil
	}
	return func(r ingress.Access) {
		a.log.Info().Str("method", r.Method).Str("host", r.Host).Str("path", r.Path).Str("client", r.Client).Bool("peer", r.Peer).
			Str("workload", r.Service).Str("replica", r.Replica).Str("via", r.Node).Int("status", r.Status).Int64("bytes", r.Bytes).
			Dur("took", r.Took).Int64("fuel", r.Cost.Fuel).Dur("cpu", r.Cost.CPU).Msg("access")
	}
}

func (a *Agent) openGossip(context.Context) error {
	var err error
	if a.ring, err = a.keptRing(); err != nil {
		return err
	}
	a.gossip, err = gossip.New(gossip.Config{
		Name: a.id.ID, Bind: a.cfg.GossipAddr, Advertise: a.cfg.AdvertiseHost, Key: a.ring[0], Log: a.log, OnEvent: func(gossip.Event) {}, Transport: a.cfg.GossipNet,
		Tags: map[string]string{"role": "node", "name": a.cfg.Name, "node": a.advertised(a.cfg.Listener), "cluster": a.id.ClusterID},
	})
	return err
}

// resume takes up, with no coordinator's help, what the ledger says this node was to run:
// containers that still run are adopted, the rest is started anew.
func (a *Agent) resume(ctx context.Context) error {
	set, err := a.ledger.Set()
	if err != nil {
		return err
	}
	records, err := a.ledger.Replicas()
	if err != nil {
		return err
	}
	a.intake = newIntake(a, set, time.Now())
	a.loadTable()
	keep := map[string]bool{}
	for _, r := range records {
		keep[r.ReplicaID] = true
	}
	if err := a.volumes.Resume(keep); err != nil {
		return err
	}
	a.sup.Resume(ctx, records)
	for v, d := range a.drivers {
		if d.Info(ctx).Available {
			if err := d.Clean(ctx, keep); err != nil {
				a.log.Warn().Err(err).Str("variant", string(v)).Msg("leftovers not all removed")
			}
		}
	}
	return nil
}

func (a *Agent) serve(context.Context) error {
	ctx, g := a.group.Context(), a.group
	node := a.mux.Handle(api.ALPNNode, api.RoleServer, api.RoleNode)
	peer := a.mux.Handle(api.ALPNIngress, api.RoleNode)
	g.Go("node API", func(context.Context) error { return link.ServeHTTP2(ctx, node, a.nodeAPI(), a.log) })
	g.Go("peer ingress", func(context.Context) error { return link.ServeHTTP1(ctx, peer, a.ingress.Peer(), a.log) })
	g.Go("mTLS port", a.mux.Serve)
	g.Go("ingress", func(ctx context.Context) error {
		return servePublic(ctx, a.cfg.Ingress, a.ingress.Public(), maxIngressConns)
	})
	if a.cfg.S3 != nil {
		g.Go("S3 door", func(ctx context.Context) error { return servePublic(ctx, a.cfg.S3, a.s3Door(), maxS3Conns) })
	}
	g.Go("intake", a.intake.run)
	g.Go("reports", a.reports.run)
	g.Go("node events", a.events.run)
	g.Go("gauges", a.keepGauges)
	g.Go("usage", a.keepUsage)
	g.Go("disk", a.disk.run)
	g.Go("endpoint table", a.keepTable)
	g.Go("own certificate", a.keepCertificate)
	g.Go("gossip peers", a.keepGossipJoined)
	g.Go("artifact cache", a.keepCache)
	a.serveStore(ctx, g)
	a.sessions.start(a.sessions.members())
	return nil
}

// Done is closed when the node can no longer serve.
func (a *Agent) Done() <-chan struct{} { return a.group.Context().Done() }

// ID is the node's id; GossipAddr is where gossip is bound.
func (a *Agent) ID() string         { return a.id.ID }
func (a *Agent) GossipAddr() string { return a.gossip.Addr() }

// Close says goodbye, lets requests in flight end, stops replicas as OnStop says, and releases
// everything in reverse order. It may be called at any stage of Open, and twice.
func (a *Agent) Close() error {
	a.stopOnce.Do(func() { a.stopErr = a.close() })
	return a.stopErr
}

// drainSelf has everything that runs here moved away, and waits until it is gone or drainTimeout is over. It
// asks again and again: a session that begins anew registers the node, which ends a drain of its own.
func (a *Agent) drainSelf() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	var asked time.Time
	for a.running() > 0 {
		if time.Since(asked) >= drainAgain {
			err := a.sessions.call(ctx, api.PathDrainSelf, struct{}{}, &struct{}{})
			if err != nil && asked.IsZero() {
				a.log.Warn().Err(err).Msg("replicas not moved before this stop")
				return
			}
			asked = time.Now()
		}
		if run.Sleep(ctx, 100*time.Millisecond) != nil {
			return
		}
	}
}

func (a *Agent) running() int {
	n := 0
	for _, state := range a.sup.Each() {
		if !state.Terminal() {
			n++
		}
	}
	return n
}

func (a *Agent) close() error {
	var errs []error
	onStop := a.settings.Load().OnStop
	if a.sessions != nil && a.sup != nil && onStop == OnStopDrain {
		a.drainSelf() // has a time of its own
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if a.sessions != nil && a.sup != nil {
		a.sessions.goodbye(ctx)
	}
	if a.sup != nil {
		mode := supervise.StopRestart
		if onStop == OnStopKill {
			mode = supervise.StopKill
		}
		errs = append(errs, a.sup.Stop(ctx, mode))
	}
	if a.volumes != nil {
		errs = append(errs, a.volumes.Close(onStop == OnStopKill))
	}
	a.group.Stop()
	if a.ingress != nil {
		errs = append(errs, a.ingress.Close())
	}
	if a.mux != nil {
		errs = append(errs, a.mux.Close())
	}
	if a.gossip != nil {
		errs = append(errs, a.gossip.Close())
	}
	if a.gateway != nil {
		errs = append(errs, a.gateway.Close())
	}
	errs = append(errs, a.group.Wait())
	if a.store != nil {
		errs = append(errs, a.store.close())
	}
	for _, v := range []api.Variant{api.VariantWasm, api.VariantContainer} {
		if d, ok := a.drivers[v]; ok {
			errs = append(errs, d.Close())
		}
	}
	if a.ledger != nil {
		errs = append(errs, a.ledger.Close())
	}
	return errors.Join(errs...)
}
