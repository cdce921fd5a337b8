package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
)

// Times of the conversation with a coordinator.
const (
	callTimeout  = 10 * time.Second
	watchWait    = 55 * time.Second
	redialAfter  = 200 * time.Millisecond
	redialMax    = 2 * time.Second
	stopTimeout  = 20 * time.Second
	goodbyeWait  = 2 * time.Second
	drainTimeout = 5 * time.Minute // for replicas to move before a stop with --on-stop=drain
	drainAgain   = 2 * time.Second // between two words to the coordinators that they are to move
	maxWatchBody = 256 << 20       // a set or table of the largest cluster
	smallAnswer  = 64 << 10        // after which a watch goes on at once: some hundred workloads
	restPerMiB   = 50 * time.Millisecond
	maxRest      = 500 * time.Millisecond
)

// sessions is the conversation with every coordinator that is known. The list changes with what they
// tell, and is kept in the ledger for the next start.
type sessions struct {
	a      *Agent
	saving sync.Mutex // one write of the list at a time; never under mu, for which every call waits
	mu     sync.Mutex
	known  []api.Member // replaced, never changed
	byID   map[string]*session
	leader string
}

// session is the conversation with one coordinator: a tunnel, heartbeats and two watches.
type session struct {
	a      *Agent
	member api.Member
	client *http.Client
	lines  map[byte]*link.Line // by what is asked on them, so that reads wait for no change
	cancel context.CancelFunc
}

// newSessions begins none yet; it knows the coordinators of the last run, or of the enrolment.
func newSessions(a *Agent) *sessions {
	known, err := a.ledger.Members()
	if err != nil {
		a.log.Error().Err(err).Msg("known coordinators not read from the ledger")
	}
	return &sessions{a: a, known: known, byID: map[string]*session{}}
}

// members are the coordinators that are known.
func (ss *sessions) members() []api.Member {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.known
}

// start begins a session with each coordinator that has none, and ends those of coordinators that
// are no longer among them.
func (ss *sessions) start(members []api.Member) {
	if len(members) == 0 || !ss.update(members) {
		return
	}
	ss.saving.Lock()
	defer ss.saving.Unlock()
	if err := ss.a.ledger.SaveMembers(ss.members()); err != nil {
		ss.a.log.Error().Err(err).Msg("known coordinators not kept")
	}
}

// update tells whether the list is another one than before.
func (ss *sessions) update(members []api.Member) (changed bool) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	keep := map[string]bool{}
	for _, m := range members {
		if m.NodeAddr == "" {
			continue
		}
		keep[m.ID] = true
		old, ok := ss.byID[m.ID]
		if ok && old.member.NodeAddr == m.NodeAddr {
			continue
		}
		if ok {
			old.cancel()
		}
		ss.byID[m.ID] = ss.open(m)
	}
	for id, s := range ss.byID {
		if !keep[id] {
			s.cancel()
			delete(ss.byID, id)
		}
	}
	changed = !slices.EqualFunc(members, ss.known, samePlace)
	ss.known = members
	return changed
}

// samePlace tells whether a coordinator is where it was. Its other ports count too: guests are kept from them.
func samePlace(a, b api.Member) bool {
	return a.ID == b.ID && a.NodeAddr == b.NodeAddr && a.HTTPAddr == b.HTTPAddr && a.GossipAddr == b.GossipAddr
}

func (ss *sessions) open(m api.Member) *session {
	want := pki.Identity{Cluster: ss.a.id.ClusterID, Role: api.RoleServer, ID: m.ID}
	ctx, cancel := context.WithCancel(ss.a.group.Context())
	s := &session{a: ss.a, member: m, cancel: cancel}
	s.client = ss.a.dialer.MemberHTTPClient(api.ALPNNode, want, s.addrs)
	s.lines = map[byte]*link.Line{}
	for _, kind := range []byte{api.LineMetaApply, api.LineMetaRead} {
		s.lines[kind] = link.NewLine(ctx, ss.a.group, maxMetaAnswer, func(ctx context.Context) (net.Conn, error) {
			return ss.a.dialer.DialAny(ctx, s.addrs(), api.ALPNMeta, want)
		})
	}
	for name, f := range map[string]func(context.Context) error{
		"tunnel": s.tunnel, "heartbeat": s.heartbeat, "assignments": s.watchAssignments, "endpoints": s.watchEndpoints,
	} {
		ss.a.group.Go(name+" of "+m.Name, func(context.Context) error { return s.keep(ctx, name, f) })
	}
	return s
}

// addrs lists where the coordinator may be: where it was, then where the gossip says that it is now. All
// coordinators may have moved at once, with nobody left to tell of it. Whoever has the gossip key may
// claim an address; who answers there must show this coordinator's certificate.
func (s *session) addrs() []string {
	addrs := []string{s.member.NodeAddr}
	if m, ok := s.a.gossip.Member(s.member.ID); ok && m.Status == gossip.StatusAlive && m.Tags["node"] != "" && m.Tags["node"] != s.member.NodeAddr {
		addrs = append(addrs, m.Tags["node"])
	}
	return addrs
}

// keep runs f again and again until ctx ends, with a pause that grows with failures.
func (s *session) keep(ctx context.Context, name string, f func(context.Context) error) error {
	pause := redialAfter
	for {
		began := time.Now()
		err := f(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.a.log.Debug().Err(err).Str("coordinator", s.member.Name).Str("part", name).Msg("session interrupted")
		if time.Since(began) > redialMax {
			pause = redialAfter
		}
		if run.Sleep(ctx, pause) != nil {
			return nil
		}
		pause = min(pause*2, redialMax)
	}
}

// tunnel gives the coordinator a connection on which it can open streams to this node.
func (s *session) tunnel(ctx context.Context) error {
	want := pki.Identity{Cluster: s.a.id.ClusterID, Role: api.RoleServer, ID: s.member.ID}
	conn, err := s.a.dialer.DialAny(ctx, s.addrs(), api.ALPNTunnel, want)
	if err != nil {
		return err
	}
	return link.ServeTunnel(ctx, conn, s.a.mux.Inject)
}

// heartbeat registers this node and then says every second that it lives. It registers again when its
// settings change, and when a coordinator does not know the node or has not forgotten its goodbye.
func (s *session) heartbeat(ctx context.Context) error {
	hb, told, has := api.Heartbeat{}, (*Settings)(nil), uint64(0)
	for {
		if now := s.a.settings.Load(); told != now {
			if err := s.register(ctx); err != nil {
				return err
			}
			told = now
		}
		sent := time.Now()
		hb = s.a.fillHeartbeat(hb, has, sent)
		var ack api.HeartbeatAck
		if err := s.call(ctx, api.PathHeartbeat, hb, &ack); err != nil {
			s.cutLines()
			return err
		}
		hb.RTTMillis = float64(time.Since(sent).Microseconds()) / 1000
		has = ack.Inventory
		if !ack.Known {
			told = nil
		}
		s.a.sessions.heard(ack)
		if err := s.a.keepTrust(ctx, s, ack.TrustIndex); err != nil {
			s.a.log.Warn().Err(err).Msg("new keys of the cluster not taken up yet; trying again")
		}
		if err := run.Sleep(ctx, api.HeartbeatInterval); err != nil {
			return err
		}
	}
}

// cutLines gives up what is asked of a coordinator that does not answer heartbeats: it may be frozen, and
// another one knows.
func (s *session) cutLines() {
	for _, line := range s.lines {
		line.Cut()
	}
}

func (s *session) register(ctx context.Context) error {
	var resp api.RegisterResponse
	if err := s.call(ctx, api.PathRegister, s.a.describe(ctx), &resp); err != nil {
		return err
	}
	s.a.sessions.start(resp.Coordinators)
	return nil
}

func (ss *sessions) heard(ack api.HeartbeatAck) {
	ss.mu.Lock()
	if ack.LeaderID != "" {
		ss.leader = ack.LeaderID
	}
	ss.mu.Unlock()
	ss.start(ack.Coordinators)
}

func (s *session) watchAssignments(ctx context.Context) error {
	return watch(ctx, s, func() string {
		epoch, gen := s.a.intake.have()
		return fmt.Sprintf("%s?epoch=%d&generation=%d&wait=%s", api.PathAssignments, epoch, gen, watchWait)
	}, func(set *api.AssignmentSet) error {
		s.a.intake.offer(set)
		return s.a.intake.settled(ctx, set.Epoch, set.Generation)
	})
}

func (s *session) watchEndpoints(ctx context.Context) error {
	return watch(ctx, s, func() string {
		epoch, index := s.a.table.have()
		return fmt.Sprintf("%s?epoch=%d&index=%d&wait=%s", api.PathEndpoints, epoch, index, watchWait)
	}, func(t *api.EndpointTable) error {
		s.a.takeEndpoints(t)
		return nil
	})
}

// watch makes blocking reads, one after the other, and has each change taken.
func watch[T any](ctx context.Context, s *session, path func() string, take func(*T) error) error {
	for {
		next := new(T)
		size, err := s.get(ctx, watchWait+callTimeout, path(), next)
		if err == nil && size > 0 {
			err = take(next)
		}
		if err == nil {
			err = run.Sleep(ctx, restAfter(size))
		}
		if err != nil {
			return err
		}
	}
}

// restAfter is how long a watch asks for nothing after an answer of a size. Each answer is all of a set or
// table: of one with thousands of workloads the next changes may as well come together, or nodes and
// coordinators would do little else while many are deployed.
func restAfter(size int64) time.Duration {
	if size <= smallAnswer {
		return 0
	}
	return min(time.Duration(size)*restPerMiB>>20, maxRest)
}

// get reads something that may be the same as before: its size is 0 then.
func (s *session) get(ctx context.Context, timeout time.Duration, path string, out any) (size int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := s.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return 0, nil
	}
	dec := json.NewDecoder(io.LimitReader(resp.Body, maxWatchBody))
	err = dec.Decode(out)
	return dec.InputOffset(), err
}

func (s *session) call(ctx context.Context, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	resp, err := s.do(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(io.LimitReader(resp.Body, api.MaxBodyBytes)).Decode(out)
}

func (s *session) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+s.member.ID+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		var eb api.ErrorBody
		if json.NewDecoder(io.LimitReader(resp.Body, api.MaxBodyBytes)).Decode(&eb) == nil && eb.Error != nil {
			return nil, eb.Error
		}
		return nil, api.Errorf(api.CodeUnavailable, "coordinator %s answered with status %d", s.member.Name, resp.StatusCode)
	}
	return resp, nil
}

// inOrder lists the sessions, the leader's first.
func (ss *sessions) inOrder() []*session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var out []*session
	for _, id := range slices.Sorted(maps.Keys(ss.byID)) {
		if id == ss.leader {
			out = slices.Insert(out, 0, ss.byID[id])
		} else {
			out = append(out, ss.byID[id])
		}
	}
	return out
}

// addrs lists the coordinators' node ports, for relays.
func (ss *sessions) addrs() []string {
	var out []string
	for _, s := range ss.inOrder() {
		out = append(out, s.member.NodeAddr)
	}
	return out
}

// call makes one POST to the first coordinator that answers. A refusal is an answer.
func (ss *sessions) call(ctx context.Context, path string, in, out any) error {
	last := error(api.Errorf(api.CodeUnavailable, "no coordinator is known"))
	for _, s := range ss.inOrder() {
		if last = s.call(ctx, path, in, out); !api.AskAnother(last) {
			return last
		}
	}
	return last
}

// goodbye tells every coordinator that this stop is meant.
func (ss *sessions) goodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, goodbyeWait)
	defer cancel()
	g := run.New(ctx)
	for _, s := range ss.inOrder() {
		g.Go("goodbye", func(ctx context.Context) error {
			err := s.call(ctx, api.PathGoodbye, api.Goodbye{Kind: api.GoodbyeRestart}, &struct{}{})
			return errors.Join(err, context.Canceled) // one coordinator's silence ends nothing
		})
	}
	_ = g.Wait()
}
