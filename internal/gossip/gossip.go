package gossip

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// The pace. A member that falls silent is suspected after one missed probe and failed
// suspicionProbes probe intervals later, unless it objects; in a cluster of more than ten members,
// log10 of their number times as late.
const (
	probeInterval   = 500 * time.Millisecond
	probeTimeout    = 250 * time.Millisecond
	suspicionProbes = 6 // 3 s
	streamTimeout   = 5 * time.Second
	pingTimeout     = time.Second
	leaveTimeout    = 2 * time.Second
	leaveDelay      = time.Second
	// reclaimAfter is how long a failed member's old address keeps its name.
	reclaimAfter = time.Second
)

// Limits.
const (
	eventQueue  = 256  // Serf's events that wait for OnEvent; when it is full Serf waits
	claimQueue  = 16   // claims that wait for OnEvent; when it is full more are dropped
	claimsKnown = 1024 // claims that have been told, so that each is told once a minute
	claimEvery  = time.Minute
)

// Config is what a member needs.
type Config struct {
	Name      string // the node's or server's id
	Bind      string // HOST:PORT for TCP and UDP; port 0 picks one
	Advertise string // HOST or HOST:PORT that others are told; "": found from Bind
	Key       []byte // 32 bytes
	Tags      map[string]string
	// SnapshotPath is a file of the members last seen, by which a restart finds them again; "": none.
	SnapshotPath string
	Log          zerolog.Logger
	// OnEvent is called from one goroutine, in order. It must be quick: Serf waits for it.
	OnEvent   func(Event)
	Transport Transport // nil: the network
}

// Transport carries gossip: packets and streams. It is the seam for tests.
type Transport = memberlist.Transport

// Statuses of a Member.
const (
	StatusNone    = "none"
	StatusAlive   = "alive"
	StatusLeaving = "leaving"
	StatusLeft    = "left"
	StatusFailed  = "failed"
)

// Member is what Serf knows of one.
type Member struct {
	Name   string
	Addr   string // HOST:PORT of its gossip
	Tags   map[string]string
	Status string
}

// Kinds of an Event.
const (
	EventJoin   = "join"
	EventFailed = "failed"
	EventLeave  = "leave"
	EventUpdate = "update" // of its tags
	EventClaim  = "claim"  // Member claims the name of one that is alive at another address
)

// Event says that a member changed, or that one was claimed.
type Event struct {
	Kind   string
	Member Member
}

// Gossip is one member. It is safe for concurrent use.
type Gossip struct {
	cfg   Config
	serf  *serf.Serf
	ring  *memberlist.Keyring
	addr  string
	group *run.Group
	joins chan struct{} // holds one: the join under way

	mu      sync.Mutex
	closed  bool
	waiting sync.WaitGroup // calls into Serf that know no context
}

// New starts a member that knows no other until Join, or until it finds some in its snapshot.
func New(cfg Config) (*Gossip, error) {
	if len(cfg.Key) != keyBytes {
		return nil, api.Errorf(api.CodeInvalid, "the gossip key has %d bytes, want %d", len(cfg.Key), keyBytes)
	}
	transport, addr, err := newTransport(cfg)
	if err != nil {
		return nil, err
	}
	if err := own(cfg.SnapshotPath); err != nil {
		return nil, errors.Join(err, transport.Shutdown())
	}
	events := make(chan serf.Event, eventQueue)
	claims := newClaims()
	conf, err := serfConfig(cfg, transport, addr, events, claims)
	if err != nil {
		return nil, errors.Join(err, transport.Shutdown())
	}
	g := &Gossip{cfg: cfg, addr: addr, ring: conf.MemberlistConfig.Keyring, group: run.New(context.Background()), joins: make(chan struct{}, 1)}
	// The reader comes first: Serf may have more to say during Create than the queue holds.
	g.group.Go("gossip events", func(ctx context.Context) error { return g.deliver(ctx, events, claims) })
	if g.serf, err = serf.Create(conf); err != nil {
		err = api.Errorf(api.CodeInvalid, "gossip cannot start: %w", err)
		return nil, errors.Join(err, transport.Shutdown(), g.group.Close())
	}
	if g.addr == "" {
		g.addr = g.serf.Memberlist().LocalNode().Address()
	}
	return g, nil
}

// own makes the snapshot its owner's alone, which Serf would make readable to all.
func own(snapshot string) error {
	if snapshot == "" {
		return nil
	}
	f, err := os.OpenFile(snapshot, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Close())
}

func serfConfig(cfg Config, transport memberlist.Transport, addr string, events chan<- serf.Event, claims *claims) (*serf.Config, error) {
	list := memberlist.DefaultLANConfig()
	list.Transport = transport
	ring, err := memberlist.NewKeyring(nil, cfg.Key)
	if err != nil {
		return nil, err
	}
	list.Keyring = ring
	list.ProbeInterval, list.ProbeTimeout = probeInterval, probeTimeout
	list.SuspicionMult, list.SuspicionMaxTimeoutMult = suspicionProbes, 1
	list.TCPTimeout = streamTimeout
	list.DeadNodeReclaimTime = reclaimAfter
	list.EnableCompression = false // saves CPU; what others compress is still read
	list.Logger = newLogger(cfg.Log)
	if err := advertise(list, cfg.Advertise, addr); err != nil {
		return nil, err
	}
	conf := serf.DefaultConfig()
	conf.NodeName, conf.Tags = cfg.Name, cfg.Tags
	conf.ValidateNodeNames = true
	conf.EventCh = events
	conf.MemberlistConfig = list
	conf.Logger, conf.LogOutput = list.Logger, nil
	conf.SnapshotPath, conf.RejoinAfterLeave = cfg.SnapshotPath, true
	conf.EnableNameConflictResolution = false // a conflict is an event and nothing else
	conf.Merge = claims
	conf.BroadcastTimeout, conf.LeavePropagateDelay = leaveTimeout, leaveDelay
	return conf, nil
}

// deliver ends with the group.
func (g *Gossip) deliver(ctx context.Context, events <-chan serf.Event, claims *claims) error {
	for {
		select {
		case e := <-events:
			if m, ok := e.(serf.MemberEvent); ok {
				g.tell(m, claims)
			}
		case member := <-claims.queue:
			g.call(Event{EventClaim, member})
		case <-ctx.Done():
			return nil
		}
	}
}

var kinds = map[serf.EventType]string{
	serf.EventMemberJoin: EventJoin, serf.EventMemberFailed: EventFailed, serf.EventMemberLeave: EventLeave,
	serf.EventMemberUpdate: EventUpdate,
}

func (g *Gossip) tell(e serf.MemberEvent, claims *claims) {
	for i := range e.Members {
		member := memberOf(&e.Members[i])
		claims.see(e.Type, member)
		if kind, ok := kinds[e.Type]; ok {
			g.call(Event{kind, member})
		}
	}
}

func (g *Gossip) call(e Event) {
	if g.cfg.OnEvent != nil {
		g.cfg.OnEvent(e)
	}
}

func memberOf(m *serf.Member) Member {
	return Member{Name: m.Name, Addr: net.JoinHostPort(m.Addr.String(), strconv.Itoa(int(m.Port))), Tags: m.Tags, Status: m.Status.String()}
}

// Join finds the cluster through any of addrs and returns how many answered; an error means none.
// Serf tries addresses that do not answer for streamTimeout each, one after the other and one join
// at a time; a join that ctx has given up goes on, and the next one waits for it here, not in Serf,
// where one more goroutine would pile up with each.
func (g *Gossip) Join(ctx context.Context, addrs []string) (int, error) {
	type answer struct {
		count int
		err   error
	}
	select {
	case g.joins <- struct{}{}:
	case <-ctx.Done():
		return 0, api.Errorf(api.CodeTimeout, "an earlier join of the gossip is still under way: %w", ctx.Err())
	}
	answers := make(chan answer, 1)
	if err := g.start(func() {
		defer func() { <-g.joins }()
		count, err := g.serf.Join(addrs, true)
		answers <- answer{count, err}
	}); err != nil {
		<-g.joins
		return 0, err
	}
	select {
	case a := <-answers:
		if a.count == 0 && a.err != nil {
			return 0, api.Errorf(api.CodeUnavailable, "could not join the gossip through %v: %w", addrs, a.err).
				WithHint("check the addresses, that TCP and UDP pass, and that the gossip key is the cluster's")
		}
		return a.count, nil
	case <-ctx.Done():
		return 0, api.Errorf(api.CodeTimeout, "could not join the gossip through %v in time: %w", addrs, ctx.Err())
	}
}

// start runs a call that knows no context; Close waits for it. Serf bounds it by its own timeouts.
func (g *Gossip) start(call func()) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return api.Errorf(api.CodeUnavailable, "gossip is stopped")
	}
	g.waiting.Go(call)
	return nil
}

// Members lists all that are known, by name, this one among them.
func (g *Gossip) Members() []Member {
	members := g.serf.Members()
	out := make([]Member, len(members))
	for i := range members {
		out[i] = memberOf(&members[i])
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Member is the one with a name; false when nothing is known of it.
func (g *Gossip) Member(name string) (Member, bool) {
	m, ok := g.find(name)
	if !ok {
		return Member{}, false
	}
	return memberOf(&m), true
}

// Status is that of the member with a name, StatusNone when nothing is known of it.
func (g *Gossip) Status(name string) string {
	if m, ok := g.find(name); ok {
		return m.Status.String()
	}
	return StatusNone
}

func (g *Gossip) find(name string) (serf.Member, bool) {
	for _, m := range g.serf.Members() {
		if m.Name == name {
			return m, true
		}
	}
	return serf.Member{}, false
}

// Ping asks a member directly, over UDP, until it answers, ctx ends or a second has passed. That it
// does not answer means little when UDP is lost on the way.
func (g *Gossip) Ping(ctx context.Context, name string) (time.Duration, error) {
	member, ok := g.find(name)
	if !ok {
		return 0, api.Errorf(api.CodeNotFound, "gossip knows no member %s", name)
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	answers := make(chan time.Duration, 1)
	if err := g.start(func() { g.pingUntil(ctx, member, answers) }); err != nil {
		return 0, err
	}
	select {
	case rtt := <-answers:
		return rtt, nil
	case <-ctx.Done():
		return 0, api.Errorf(api.CodeTimeout, "%s did not answer a ping: %w", name, ctx.Err())
	}
}

func (g *Gossip) pingUntil(ctx context.Context, m serf.Member, answers chan<- time.Duration) {
	to := &net.UDPAddr{IP: m.Addr, Port: int(m.Port)}
	for ctx.Err() == nil {
		// memberlist counts from after the send: on a busy machine an answer can then be older than
		// its question, so the time is taken here.
		sent := time.Now()
		_, err := g.serf.Memberlist().Ping(m.Name, to)
		if err == nil {
			answers <- time.Since(sent)
			return
		}
		var unanswered memberlist.NoPingResponseError
		if !errors.As(err, &unanswered) { // it could not even be sent
			return
		}
	}
}

// RTT estimates the round-trip time between two members from their coordinates.
func (g *Gossip) RTT(a, b string) (time.Duration, bool) {
	from, ok := g.serf.GetCachedCoordinate(a)
	if !ok {
		return 0, false
	}
	to, ok := g.serf.GetCachedCoordinate(b)
	if !ok || !from.IsCompatibleWith(to) {
		return 0, false
	}
	return from.DistanceTo(to), true
}

// Addr is the HOST:PORT that is bound.
func (g *Gossip) Addr() string { return g.addr }

// Close stops without a word, and the others take this member for failed: that a stop was planned, sessions say.
func (g *Gossip) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	err := g.serf.Shutdown()
	g.waiting.Wait()
	return errors.Join(err, g.group.Close())
}
