package ingress

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// What bounds a request to another node, in the order of its life:
//
//   - Connecting: remoteDial. Nothing was sent, so any request goes to the next replica.
//   - Its response head, or the rest of its response, while the node lives: nothing here. A handler may
//     be slow and a stream long; wasm.timeout, the container or the client ends them.
//   - Either, when the node has fallen silent (frozen, cut off): the times below. A frozen process keeps
//     its connections, so silence on one proves nothing. The node is asked on a connection of its own
//     whether it lives; how long it leaves that unanswered is its silence. The endpoint table's word
//     that a node is suspect makes the wait shorter, and never ends a request by itself: a node that the
//     coordinators cannot hear may still serve.
const (
	pingAfter   = time.Second     // a request waits so long before its node is asked
	pingEvery   = time.Second     // while a request waits for its head, or the node is silent
	pingStreams = 5 * time.Second // while only responses under way are watched
	pingTimeout = 2 * time.Second // of one ping; the next takes a new connection
	watchEvery  = 250 * time.Millisecond

	silentDoubted = 500 * time.Millisecond // of a node that the table doubts: what can go elsewhere does
	silentMove    = 2 * time.Second        // of any node: the same
	silentGiveUp  = 10 * time.Second       // what cannot go elsewhere is answered with an error
	silentCut     = time.Minute            // a response under way, or a TCP connection, is cut off
)

// waiting is one request at another node, as far as giving it up is concerned.
type waiting struct {
	silent    time.Duration // how long the node has not answered pings; 0: it answers
	doubted   bool          // the endpoint table calls the node suspect or lost, or does not name it
	begun     bool          // its response head has come
	elsewhere bool          // it may be repeated, and there is another replica to take it
}

// over tells whether to give the request up.
func (w waiting) over() bool {
	switch {
	case w.begun:
		return w.silent >= silentCut
	case w.elsewhere && w.doubted:
		return w.silent >= silentDoubted
	case w.elsewhere:
		return w.silent >= silentMove
	}
	return w.silent >= silentGiveUp
}

// pulse is what is known of one node that has requests of ours.
type pulse struct {
	attempts map[*attempt]struct{}
	pinging  bool
	pinged   time.Time // when the last ping was sent
	unheard  time.Time // when the first ping that is still unanswered was sent; zero: the node answers
}

func (p *pulse) silence(now time.Time) time.Duration {
	if p.unheard.IsZero() {
		return 0
	}
	return now.Sub(p.unheard)
}

// due tells whether the node is to be asked now whether it lives.
func (p *pulse) due(now time.Time) bool {
	if p.pinging {
		return false
	}
	if !p.unheard.IsZero() {
		return now.Sub(p.pinged) >= pingEvery
	}
	for a := range p.attempts {
		every := pingEvery
		if a.begun.Load() {
			every = pingStreams
		}
		if now.Sub(a.since) >= pingAfter && now.Sub(p.pinged) >= every {
			return true
		}
	}
	return false
}

// watch looks after the requests at other nodes. Its one loop runs only while there are any, or while
// a node of the table is silent: until that answers again, new requests try others first.
type watch struct {
	in    *Ingress
	pings *http.Transport

	mu      sync.Mutex
	nodes   map[string]*pulse
	running bool
	closed  bool
}

func (w *watch) init(in *Ingress) {
	w.in = in
	w.nodes = map[string]*pulse{}
	w.pings = newTransport(in.dialNode)
	w.pings.MaxConnsPerHost = 2 // one may be closing
	w.pings.MaxIdleConnsPerHost = 1
}

// add watches an attempt until the function that it returns is called.
func (w *watch) add(a *attempt) (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.nodes[a.node]
	if p == nil {
		p = &pulse{attempts: map[*attempt]struct{}{}}
		w.nodes[a.node] = p
	}
	p.attempts[a] = struct{}{}
	if !w.running && !w.closed {
		w.running = true
		w.in.group.Go("watch of other nodes", w.run)
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(p.attempts, a)
	}
}

func (w *watch) run(ctx context.Context) error {
	for run.Sleep(ctx, watchEvery) == nil {
		if !w.look(time.Now()) {
			return nil
		}
	}
	return nil
}

// look asks the nodes that are due, notes the silent ones, and gives up what has waited too long;
// false when nothing is left to watch.
func (w *watch) look(now time.Time) bool {
	nodes := w.in.routes.Load().nodes
	type doubt struct {
		silent  time.Duration
		doubted bool
		held    []*attempt
	}
	var doubts []doubt
	w.mu.Lock()
	for id, p := range w.nodes {
		peer, known := nodes[id]
		d := doubt{silent: p.silence(now), doubted: !known || peer.State == api.NodeSuspect || peer.State == api.NodeLost}
		if len(p.attempts) == 0 && (d.silent == 0 || !known) && !p.pinging {
			delete(w.nodes, id)
			continue
		}
		if p.due(now) {
			w.ask(id, p, now)
		}
		if (waiting{silent: d.silent, doubted: d.doubted, elsewhere: true}).over() {
			w.in.noteNode(id, true)
			d.held = slices.Collect(maps.Keys(p.attempts))
			doubts = append(doubts, d)
		}
	}
	w.running = len(w.nodes) > 0
	running := w.running
	w.mu.Unlock()
	for _, d := range doubts {
		for _, a := range d.held {
			begun := a.begun.Load()
			if (waiting{d.silent, d.doubted, begun, !begun && a.elsewhere()}).over() {
				a.giveUp()
			}
		}
	}
	return running
}

// ask sends a ping. Any answer to a request that names no replica is a sign of life. w.mu is held.
func (w *watch) ask(nodeID string, p *pulse, now time.Time) {
	if w.closed {
		return
	}
	p.pinging, p.pinged = true, now
	if p.unheard.IsZero() {
		p.unheard = now
	}
	w.in.group.Go("ping of "+nodeID, func(ctx context.Context) error {
		alive := w.ping(ctx, nodeID)
		w.mu.Lock()
		defer w.mu.Unlock()
		p.pinging = false
		if alive {
			p.unheard = time.Time{}
		}
		return nil
	})
}

func (w *watch) ping(ctx context.Context, nodeID string) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(nodeID, "80")+"/", nil)
	if err != nil {
		return false
	}
	res, err := w.pings.RoundTrip(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 4<<10)) // so that the connection can be used again
	res.Body.Close()
	return true
}

// silentNow tells whether a node has left a ping unanswered for long enough to go elsewhere.
func (w *watch) silentNow(nodeID string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.nodes[nodeID]
	return p != nil && p.silence(time.Now()) >= silentDoubted
}

// close lets no new loop or ping begin; those under way end with the group.
func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}
