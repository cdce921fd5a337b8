// Package coordinator is one member of the control plane: it keeps the replicated state with the
// others, answers agents and the REST API, and, while it leads, decides what runs where.
//
// Start at Server and its Run; leader.go is what leading means; backend*.go is what the REST API may
// ask; nodeapi.go and peerapi.go are what agents and other coordinators may ask; signals.go is what
// a coordinator knows of nodes that is not in the log.
package coordinator

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/chunkstore/transfer"
	"github.com/cloudless/cloudless/coordinator/consensus"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/coordinator/upkeep"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/internal/telemetry"
)

// Bounds of a coordinator.
const (
	maxTunnels      = api.MaxNodes
	maxRelayStreams = 1024
	proposeTimeout  = 10 * time.Second
	followTimeout   = 5 * time.Second // for a follower to see its own write
)

// Config is what one coordinator needs to know. Listener is its mTLS port, already bound.
type Config struct {
	DataDir       string
	Name          string
	Listener      net.Listener
	AdvertiseNode string // HOST:PORT that others dial
	AdvertiseHTTP string // URL of the REST API
	GossipAddr    string // HOST:PORT to bind
	AdvertiseHost string
	Join          []string // node ports of coordinators of an existing cluster
	Token         string
	Version       string
	Tel           *telemetry.Telemetry
	Log           zerolog.Logger
	NetDial       link.NetDial     // nil: the machine's network
	GossipNet     gossip.Transport // nil: the machine's network, at GossipAddr
}

// Server is one coordinator.
type Server struct {
	cfg        Config
	log        zerolog.Logger
	id         identity
	keys       *keyring
	trust      atomic.Pointer[trust]
	applied    progress
	writes     gather[*metaWrite]
	reads      gather[chan<- error]
	writing    turns                         // of the API's writes, by their Idempotency-Keys
	gateway    *gateway.Gateway              // objects, through this coordinator
	chunks     *transfer.Client              // the chunks of nodes
	upkeep     atomic.Pointer[upkeep.Upkeep] // nil unless this one leads
	short      *shortQueue                   // chunks to repair soon
	storeTable memberTable
	endpoints  endpointTable
	creds      *pki.Credentials

	store   *state.Store
	objects *objects.Store // rows of buckets and objects
	mux     *link.Mux
	dialer  *link.Dialer
	nodes   *link.NodeDialer
	tunnels *link.Tunnels
	clients *clients
	gossip  *gossip.Gossip
	raft    *consensus.Node
	signals *signals
	events  *eventRings
	audit   *auditLog

	started  time.Time
	poke     chan struct{} // wakes the leader's loop; holds one
	group    *run.Group
	joining  chan struct{}     // holds one: the membership change under way
	knownMu  sync.Mutex        // of id.Members and heard
	heard    map[string]string // node ports that coordinators, by id, have named themselves; see hear
	rotateMu sync.Mutex        // a key that was just made is not forgotten before the state names it
	certMu   sync.Mutex        // one renewal of the own certificate at a time
}

// Open starts a coordinator: it founds a cluster, joins one, or goes on as the member that its data
// folder says it is. It serves until Close.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{
		cfg: cfg, log: cfg.Log, store: state.New(), started: time.Now(), poke: make(chan struct{}, 1),
		signals: newSignals(), events: newEventRings(api.MaxNodeEvents), group: run.New(context.Background()), joining: make(chan struct{}, 1), heard: map[string]string{},
		writes: newGather[*metaWrite](), reads: newGather[chan<- error](), short: newShortQueue(),
	}
	err := run.Steps(ctx, []run.Step{
		{What: "open the data folder", Do: s.openData},
		{What: "load or make the identity", Do: s.openIdentity},
		{What: "open the mTLS port", Do: s.openLink},
		{What: "start gossip", Do: s.openGossip},
		{What: "open the object store's metadata", Do: s.openObjects},
		{What: "start Raft", Do: s.openRaft},
		{What: "open the object store", Do: s.openGateway},
		{What: "serve the mTLS port", Do: s.serveLink},
		{What: "become a member", Do: s.enter},
	}, s.Close)
	if err != nil {
		return nil, err
	}
	s.background()
	return s, nil
}

func (s *Server) openData(context.Context) (err error) {
	if err := datadir.Make(s.cfg.DataDir); err != nil {
		return err
	}
	if err := s.checkRemoved(); err != nil {
		return err
	}
	s.audit, err = openAudit(s.path(fileAudit), s.log)
	return err
}

func (s *Server) openLink(context.Context) error {
	s.mux = link.NewMux(s.cfg.Listener, s.creds, s.log)
	s.creds.SetVerifier(s.verifyPeer)
	s.dialer = &link.Dialer{Creds: s.creds, Net: s.cfg.NetDial, Peers: s.mux.Peers}
	s.tunnels = link.NewTunnels(maxTunnels, s.sessionOpened, s.sessionClosed, s.log)
	s.nodes = &link.NodeDialer{
		Dialer: s.dialer, Addr: s.nodeAddr, Relays: func() []string { return nil },
		Local: s.openTunnel,
	}
	s.clients = newClients(s)
	return nil
}

func (s *Server) openTunnel(nodeID string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.group.Context(), nodeTimeout)
	defer cancel()
	return s.tunnels.Open(ctx, nodeID)
}

// verifyPeer refuses members that were removed. A coordinator that has no state yet refuses none: it
// answers nothing that matters either. One that is new is not in the tables yet, so of coordinators
// only the revoked are refused.
func (s *Server) verifyPeer(id pki.Identity) error {
	v := s.store.View()
	if v.Meta().ClusterID == "" {
		return nil
	}
	if _, ok := v.Revocation(id.ID); ok {
		return api.Errorf(api.CodeForbidden, "%s %s is not part of the cluster any more", id.Role, id.ID)
	}
	if id.Role != api.RoleNode {
		return nil
	}
	if n, ok := v.Node(id.ID); !ok || n.Liveness == api.NodeLeft {
		return api.Errorf(api.CodeForbidden, "node %s is not part of the cluster any more", id.ID)
	}
	return nil
}

// cutRevoked closes the open connections of members that the state has taken out, whenever it
// changes, and forgets what they told. It ends with the coordinator.
func (s *Server) cutRevoked(ctx context.Context) error {
	for ctx.Err() == nil {
		v := s.store.View()
		_, nodes := v.Mark(state.MarkNodes)
		_, revoked := v.Mark(state.MarkRevoked)
		if n := s.mux.Peers.Cut(func(id pki.Identity) bool { return s.verifyPeer(id) != nil }); n > 0 {
			s.log.Warn().Int("connections", n).Msg("connections of removed members cut")
		}
		s.signals.forget(func(id string) bool { _, ok := s.store.View().Node(id); return !ok })
		select {
		case <-ctx.Done():
		case <-nodes:
		case <-revoked:
		}
	}
	return nil
}

func (s *Server) nodeAddr(id string) (string, bool) {
	n, ok := s.store.View().Node(id)
	if !ok || n.Addr.Node == "" {
		return "", false
	}
	return n.Addr.Node, true
}

func (s *Server) openGossip(context.Context) (err error) {
	key, err := base64.StdEncoding.DecodeString(s.id.GossipKey)
	if err != nil {
		return fmt.Errorf("read the gossip key: %w", err)
	}
	s.gossip, err = gossip.New(gossip.Config{
		Name: s.id.ID, Bind: s.cfg.GossipAddr, Advertise: s.cfg.AdvertiseHost, Key: key, Log: s.log, OnEvent: s.onGossip, Transport: s.cfg.GossipNet,
		SnapshotPath: s.path(fileGossipMembers), Tags: map[string]string{"role": "server", "name": s.cfg.Name, "node": s.cfg.AdvertiseNode, "cluster": s.id.ClusterID},
	})
	return err
}

func (s *Server) openObjects(context.Context) (err error) {
	s.objects, err = objects.Open(nil, s.path(dirObjects), s.log)
	return err
}

func (s *Server) openRaft(context.Context) (err error) {
	dir := s.path(dirRaft)
	s.raft, err = consensus.Open(consensus.Config{
		ID: s.id.ID, DataDir: dir, Listener: s.mux.Handle(api.ALPNRaft, api.RoleServer), Dial: s.dialRaft, FSM: &fsm{s: s}, Log: s.log,
	})
	return err
}

// dialRaft finds a member by its id: an address from gossip or the state is only a hint, the
// certificate at its end is what counts.
func (s *Server) dialRaft(ctx context.Context, id string) (net.Conn, error) {
	return s.dialer.DialAny(ctx, s.memberAddrs(id), api.ALPNRaft, s.serverIdentity(id))
}

func (s *Server) serverIdentity(id string) pki.Identity {
	return pki.Identity{Cluster: s.id.ClusterID, Role: api.RoleServer, ID: id}
}

// memberAddrs lists where a coordinator may be, each address once, the likeliest first.
func (s *Server) memberAddrs(id string) []string {
	may := s.heardFrom(id)
	if s.gossip != nil {
		if m, ok := s.gossip.Member(id); ok && m.Status == gossip.StatusAlive {
			may = append(may, m.Tags["node"])
		}
	}
	for _, m := range s.everKnown() {
		if m.ID == id {
			may = append(may, m.NodeAddr)
		}
	}
	var addrs []string
	for _, addr := range may {
		if addr != "" && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func (s *Server) members() []api.Member {
	var out []api.Member
	for _, m := range s.store.View().Members() {
		out = append(out, *m)
	}
	return out
}

func (s *Server) serveLink(context.Context) error {
	ctx, g := s.group.Context(), s.group
	join, node, peer := s.mux.Handle(api.ALPNJoin), s.mux.Handle(api.ALPNNode, api.RoleNode), s.mux.Handle(api.ALPNPeer, api.RoleServer)
	tunnel, relay, lines := s.mux.Handle(api.ALPNTunnel, api.RoleNode), s.mux.Handle(api.ALPNRelay, api.RoleNode, api.RoleServer), s.mux.Handle(api.ALPNMeta, api.RoleNode)
	g.Go("join API", func(context.Context) error { return link.ServeHTTP1(ctx, join, s.joinAPI(), s.log) })
	g.Go("node API", func(context.Context) error { return link.ServeHTTP2(ctx, node, s.nodeAPI(), s.log) })
	g.Go("peer API", func(context.Context) error { return link.ServeHTTP2(ctx, peer, s.peerAPI(), s.log) })
	g.Go("metadata lines", func(context.Context) error {
		return link.ServeLines(ctx, lines, api.MaxMetaBytes, s.answerLine, s.log)
	})
	g.Go("tunnels", func(context.Context) error { return s.tunnels.Serve(ctx, tunnel) })
	g.Go("relay", func(context.Context) error { return link.ServeRelay(ctx, relay, s.tunnels, maxRelayStreams, s.log) })
	g.Go("mTLS port", func(ctx context.Context) error { return s.mux.Serve(ctx) })
	return nil
}

// watchLog ends the coordinator when its log can no longer be written.
func (s *Server) watchLog(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.raft.Failed():
		return err
	}
}

// background starts what runs for the whole life of a coordinator. Each ends with the group.
func (s *Server) background() {
	s.group.Go("leadership", s.watchLeadership)
	s.group.Go("metadata writes", s.keepWriting)
	s.group.Go("metadata reads", s.keepReading)
	s.group.Go("chunks to repair", s.keepShort)
	s.group.Go("Raft log", s.watchLog)
	s.group.Go("own entry", s.keepMemberEntry)
	s.group.Go("gossip peers", s.keepGossipJoined)
	s.group.Go("own certificate", s.keepCertificate)
	s.group.Go("revocations", s.cutRevoked)
	s.group.Go("keys", s.keepTrust)
	s.group.Go("member file", s.keepMemberFile)
	s.group.Go("events of others", s.keepPeerEvents)
	s.group.Go("gauges", s.keepGauges)
}

// Done is closed when the coordinator can no longer serve; Err then says why.
func (s *Server) Done() <-chan struct{} { return s.group.Context().Done() }

// Close stops in reverse order and waits for every goroutine. It may be called at any stage of Open.
func (s *Server) Close() error {
	var errs []error
	if s.raft != nil && s.raft.IsLeader() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		if err := s.raft.TransferLeadership(ctx); err != nil {
			s.log.Debug().Err(err).Msg("leadership not handed over")
		}
		cancel()
	}
	s.group.Stop()
	if s.mux != nil {
		errs = append(errs, s.mux.Close())
	}
	if s.gateway != nil {
		errs = append(errs, s.gateway.Close())
		s.chunks.Close()
	}
	if s.raft != nil {
		errs = append(errs, s.raft.Close())
	}
	errs = append(errs, s.group.Wait()) // what still runs may read the rows, and gossip
	if s.objects != nil {
		errs = append(errs, s.objects.Close())
	}
	if s.gossip != nil {
		errs = append(errs, s.gossip.Close())
	}
	if s.audit != nil {
		errs = append(errs, s.audit.Close())
	}
	return errors.Join(errs...)
}

// ID is the coordinator's server id; ClusterID its cluster's.
func (s *Server) ID() string        { return s.id.ID }
func (s *Server) ClusterID() string { return s.id.ClusterID }

// APICertificate gives the REST API's certificate for some hosts: made at the first call, and anew
// when a third of its life is left or another CA is shown.
func (s *Server) APICertificate(hosts []string) func() (*tls.Certificate, error) {
	var mu sync.Mutex
	var cert *tls.Certificate
	var signer string // hash of the CA that made it
	return func() (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		front := s.trust.Load().front
		if cert != nil && signer == front.Hash() && time.Until(cert.Leaf.NotAfter) > cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)/3 {
			return cert, nil
		}
		c, err := front.APICertificate(hosts, time.Now())
		if err != nil {
			return nil, err
		}
		cert, signer = &c, front.Hash()
		return cert, nil
	}
}

// GossipAddr is where gossip is bound.
func (s *Server) GossipAddr() string { return s.gossip.Addr() }
