package transfer

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/cloudless/cloudless/api"
)

// What is done for the upkeep of the whole store is marked, so that a node can tell it from what people
// wait for, and says for which leader it is done: a node that has heard of a newer one does nothing for
// an older one any more. Without that, two leaders, of whom one does not know yet that it leads no more,
// could each drop the copy on which the other relies.

// headerUpkeep marks a request for upkeep. Its value is the leader's epoch and term, where one asks.
const headerUpkeep = "Cloudless-Upkeep"

// Lead is a leadership. A newer one has a higher epoch or, in the same one, a higher term.
type Lead struct{ Epoch, Term uint64 }

func (l Lead) older(than Lead) bool {
	return l.Epoch < than.Epoch || l.Epoch == than.Epoch && l.Term < than.Term
}

func (l Lead) String() string { return fmt.Sprintf("%d.%d", l.Epoch, l.Term) }

func parseLead(text string) (l Lead, ok bool) {
	n, err := fmt.Sscanf(text, "%d.%d", &l.Epoch, &l.Term)
	return l, err == nil && n == 2 && l.String() == text
}

// Leading is a client over the same connections whose requests are for the upkeep by a leader.
func (c *Client) Leading(l Lead) *Client {
	out := &Client{Dial: c.Dial, Self: c.Self, Local: c.Local, http: c.transport(), mark: l.String()}
	return out
}

// ForUpkeep tells whether a request is for the upkeep of the store, so that nobody waits for it.
func ForUpkeep(r *http.Request) bool { return r.Header.Get(headerUpkeep) != "" }

// pulling marks requests that a node makes because it was told to copy chunks.
type pulling struct{}

func forPull(ctx context.Context) context.Context { return context.WithValue(ctx, pulling{}, true) }

// upkeepMark is what a request is marked with, "" for one that is not for upkeep.
func (c *Client) upkeepMark(ctx context.Context) string {
	if c.mark == "" && ctx.Value(pulling{}) != nil {
		return "pull"
	}
	return c.mark
}

// leads is the newest leader that a node has heard of.
type leads struct {
	mu     sync.Mutex
	newest Lead
}

// forLeader refuses a request for a leader when one for a newer leader has come before. Whose requests
// name leaders truly is for Maintains to say.
func (s *Server) forLeader(r *http.Request) error {
	lead, ok := parseLead(r.Header.Get(headerUpkeep))
	if !ok || s.Maintains == nil || !s.Maintains(r) {
		return nil
	}
	return s.leads.hear(lead)
}

func (l *leads) hear(lead Lead) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lead.older(l.newest) {
		return api.Errorf(api.CodeConflict, "this is asked for leader %v, and there is a newer one: %v", lead, l.newest)
	}
	l.newest = lead
	return nil
}
