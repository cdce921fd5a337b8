package coordinator

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
)

// nodeAPI is what agents may ask. The caller is whoever the certificate names, and acts for that
// node alone: no path and no body names another one.
func (s *Server) nodeAPI() http.Handler {
	mux := http.NewServeMux()
	for pattern, f := range s.nodeRoutes() {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			id, ok := link.PeerOfRequest(r)
			if !ok || id.Role != api.RoleNode {
				writeError(w, api.Errorf(api.CodeForbidden, "this is for nodes only"))
				return
			}
			if err := s.verifyPeer(id); err != nil { // a stream that was open when the node was removed
				writeError(w, err)
				return
			}
			f(w, r, id.ID)
		})
	}
	return mux
}

// nodeRoutes is the whole node API. What is not in it does not exist.
func (s *Server) nodeRoutes() map[string]func(w http.ResponseWriter, r *http.Request, node string) {
	return map[string]func(w http.ResponseWriter, r *http.Request, node string){
		"POST " + api.PathRegister:    s.handleRegister,
		"POST " + api.PathHeartbeat:   s.handleHeartbeat,
		"GET " + api.PathAssignments:  s.handleAssignments,
		"GET " + api.PathEndpoints:    s.handleEndpoints,
		"POST " + api.PathStatuses:    s.handleStatuses,
		"POST " + api.PathNodeEvents:  s.handleNodeEvents,
		"POST " + api.PathGoodbye:     s.handleGoodbye,
		"POST " + api.PathDrainSelf:   s.handleDrainSelf,
		"POST " + api.PathRenew:       s.handleRenew,
		"GET " + api.PathTrust:        s.handleTrust,
		"POST " + api.PathStoreKey:    s.handleStoreKey,
		"POST " + api.PathMetaRead:    s.handleMetaRead,
		"GET " + api.PathStoreMembers: s.handleStoreMembers,
		"POST " + api.PathStoreShort:  s.handleStoreShort,
	}
}

func (s *Server) handleRegister(w http.ResponseWriter, r *http.Request, node string) {
	var req api.RegisterRequest
	if !readJSON(w, r, &req) {
		return
	}
	_, _, err := s.propose(r.Context(), state.Command{RegisterNode: &state.RegisterNode{ID: node, Info: req}})
	if err == nil {
		s.probe(node) // to know whether its port can be reached: a refused dial means something only then
	}
	answer(w, api.RegisterResponse{Epoch: s.store.View().Meta().Epoch, Coordinators: s.membersNow()}, err)
}

func (s *Server) handleHeartbeat(w http.ResponseWriter, r *http.Request, node string) {
	var hb api.Heartbeat
	if !readJSON(w, r, &hb) {
		return
	}
	inventory := s.heartbeatFrom(node, hb)
	s.tel().NodeHeartbeatLatency.Observe(hb.RTTMillis / 1000)
	n, ok := s.store.View().Node(node)
	known := ok && n.Liveness != api.NodeJoining && n.Liveness != api.NodeLeft && n.Goodbye == ""
	if ok && (n.Liveness == api.NodeSuspect || n.Liveness == api.NodeLost) {
		s.wake()
	}
	writeJSON(w, http.StatusOK, api.HeartbeatAck{
		Epoch: s.store.View().Meta().Epoch, LeaderID: s.raft.LeaderID(), Coordinators: s.membersNow(), Known: known, TrustIndex: s.trust.Load().index, Inventory: inventory,
	})
}

func queryUint(r *http.Request, name string) uint64 {
	n, _ := strconv.ParseUint(r.URL.Query().Get(name), 10, 64) // absent or wrong is 0: from the beginning
	return n
}

func waitOf(r *http.Request) time.Duration {
	d, err := time.ParseDuration(r.URL.Query().Get("wait"))
	if err != nil || d < 0 {
		return 0
	}
	return min(d, api.MaxBlockingWait)
}

// poll answers as soon as next gives a value, or 204 when the wait is over. next returns the channel
// that is closed at the next change.
func poll(w http.ResponseWriter, r *http.Request, next func() (any, <-chan struct{})) {
	ctx, cancel := context.WithTimeout(r.Context(), waitOf(r))
	defer cancel()
	for {
		v, changed := next()
		if v != nil {
			writeJSON(w, http.StatusOK, v)
			return
		}
		select {
		case <-ctx.Done():
			w.WriteHeader(http.StatusNoContent)
			return
		case <-changed:
		}
	}
}

func (s *Server) handleAssignments(w http.ResponseWriter, r *http.Request, node string) {
	epoch, gen := queryUint(r, "epoch"), queryUint(r, "generation")
	poll(w, r, func() (any, <-chan struct{}) {
		v := s.store.View()
		have, changed := v.Set(node)
		if v.Meta().Epoch == 0 || !api.Older(epoch, gen, v.Meta().Epoch, have) {
			return nil, changed
		}
		return v.Assignments(node), changed
	})
}

// endpointTable is the endpoint table as it was encoded last. All nodes are told the same one at about the same
// time, and in a large cluster that is dear.
type endpointTable struct {
	mu           sync.Mutex
	epoch, index uint64
	encoded      json.RawMessage
}

// now is the table of the present state.
func (t *endpointTable) now(store *state.Store) json.RawMessage {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := store.View() // seen in here, it is as new as can be for all who waited
	index, _ := v.Mark(state.MarkServices)
	if epoch := v.Meta().Epoch; t.encoded == nil || epoch != t.epoch || index != t.index {
		t.encoded, _ = json.Marshal(v.Endpoints()) // strings and numbers cannot fail
		t.epoch, t.index = epoch, index
	}
	return t.encoded
}

// handleEndpoints serves the endpoint table. Asking for what comes after an index acknowledges it.
func (s *Server) handleEndpoints(w http.ResponseWriter, r *http.Request, node string) {
	index, epoch := queryUint(r, "index"), queryUint(r, "epoch")
	s.signals.update(node, func(n *nodeSignal) { n.endpointIndex = max(n.endpointIndex, index) })
	poll(w, r, func() (any, <-chan struct{}) {
		v := s.store.View()
		have, changed := v.Mark(state.MarkServices)
		if have == 0 || !api.Older(epoch, index, v.Meta().Epoch, have) {
			return nil, changed
		}
		return s.endpoints.now(s.store), changed
	})
}

func (s *Server) handleStatuses(w http.ResponseWriter, r *http.Request, node string) {
	var rep api.StatusReport
	if err := readStrictly(http.MaxBytesReader(w, r.Body, api.MaxReportBytes), &rep); err != nil {
		writeError(w, err)
		return
	}
	for i := range rep.Reports {
		rep.Reports[i].Reason = cutText(rep.Reports[i].Reason) // every coordinator keeps it, in the replica and in events
	}
	_, index, err := s.propose(r.Context(), state.Command{ReportStatuses: &state.ReportStatuses{NodeID: node, Report: rep}})
	answer(w, api.StatusAck{Index: index}, err)
}

func (s *Server) handleNodeEvents(w http.ResponseWriter, r *http.Request, node string) {
	var batch api.NodeEvents
	if !readJSON(w, r, &batch) {
		return
	}
	if n := max(len(batch.Events), len(batch.Dropped)); n > api.MaxNodeEvents {
		writeError(w, api.Errorf(api.CodeTooLarge, "%d events, at most %d are taken at once", n, api.MaxNodeEvents))
		return
	}
	name := node
	if n, ok := s.store.View().Node(node); ok {
		name = n.Name
	}
	s.takeNodeEvents(name, batch)
	writeJSON(w, http.StatusOK, struct{}{})
}

func (s *Server) handleGoodbye(w http.ResponseWriter, r *http.Request, node string) {
	var bye api.Goodbye
	if !readJSON(w, r, &bye) {
		return
	}
	if bye.Kind != api.GoodbyeRestart && bye.Kind != api.GoodbyeLeave {
		writeError(w, api.Errorf(api.CodeInvalid, "kind: %q is not restart or leave", bye.Kind))
		return
	}
	s.signals.update(node, func(n *nodeSignal) { n.Goodbye, n.GoodbyeAt = bye.Kind, time.Now() })
	_, _, err := s.propose(r.Context(), state.Command{Goodbye: &state.NodeGoodbye{ID: node, Kind: bye.Kind}})
	answer(w, struct{}{}, err)
}

// handleDrainSelf moves a node's replicas away because it is about to stop.
func (s *Server) handleDrainSelf(w http.ResponseWriter, r *http.Request, node string) {
	d := &api.Drain{Graceful: true, Started: time.Now().UTC(), Self: true}
	_, _, err := s.propose(r.Context(), state.Command{Drain: &state.DrainNode{ID: node, Drain: d}})
	answer(w, struct{}{}, err)
}

func (s *Server) handleRenew(w http.ResponseWriter, r *http.Request, node string) {
	var req api.RenewRequest
	if !readJSON(w, r, &req) {
		return
	}
	resp, err := s.renew(pki.Identity{Cluster: s.id.ClusterID, Role: api.RoleNode, ID: node}, req.CSR)
	answer(w, resp, err)
}
