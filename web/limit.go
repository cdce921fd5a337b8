package web

import (
	"container/list"
	"sync"

	"golang.org/x/time/rate"

	"github.com/cloudless/cloudless/api"
)

// class groups routes that share a budget.
type class int

const (
	classAddress class = iota // every request, by address, before its credential is looked at
	classRead
	classWrite
	classStream // logs, exec, followed events, artifacts
	classObject // objects, and chunks of uploads
	classes
)

// budget is how many requests a second one caller may make, and how many at once.
type budget struct {
	perSecond rate.Limit
	burst     int
}

// budgets are the limits of one server.
type budgets struct {
	rates          [classes]budget
	callers        int // remembered at most; the one longest unused is forgotten first
	sessions       int // open streams and waiting reads of all callers
	callerSessions int // and of one
}

func defaultBudgets() budgets {
	return budgets{
		rates: [classes]budget{
			classAddress: {2000, 4000},
			classRead:    {500, 1000},
			classWrite:   {200, 400},
			classStream:  {50, 100},
			classObject:  {1000, 2000},
		},
		callers:        4096,
		sessions:       2048,
		callerSessions: 256,
	}
}

type rateKey struct {
	class class
	who   string
}

type rateEntry struct {
	key     rateKey
	limiter *rate.Limiter
}

// rates limits requests by class and caller, in bounded memory.
type rates struct {
	budgets budgets
	mu      sync.Mutex
	byKey   map[rateKey]*list.Element
	recent  *list.List // of *rateEntry, last used first
}

func newRates(b budgets) *rates {
	return &rates{budgets: b, byKey: map[rateKey]*list.Element{}, recent: list.New()}
}

// allow takes one request off the caller's budget.
func (r *rates) allow(c class, who string) error {
	if r.limiter(rateKey{c, who}).Allow() {
		return nil
	}
	return api.Errorf(api.CodeRateLimited, "too many requests").WithHint("wait a second and try again")
}

func (r *rates) limiter(k rateKey) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.byKey[k]; ok {
		r.recent.MoveToFront(e)
		return e.Value.(*rateEntry).limiter
	}
	if r.recent.Len() >= r.budgets.callers {
		oldest := r.recent.Back()
		delete(r.byKey, oldest.Value.(*rateEntry).key)
		r.recent.Remove(oldest)
	}
	b := r.budgets.rates[k.class]
	entry := &rateEntry{k, rate.NewLimiter(b.perSecond, b.burst)}
	r.byKey[k] = r.recent.PushFront(entry)
	return entry.limiter
}

// sessions counts what stays open: streams and waiting reads.
type sessions struct {
	budgets budgets
	mu      sync.Mutex
	total   int
	byWho   map[string]int
}

func newSessions(b budgets) *sessions { return &sessions{budgets: b, byWho: map[string]int{}} }

// open counts one more for who, and returns how to end it.
func (s *sessions) open(who string) (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.budgets.sessions || s.byWho[who] >= s.budgets.callerSessions {
		return nil, api.Errorf(api.CodeRateLimited, "too many open streams and waiting reads").
			WithHint("close some, or wait and try again")
	}
	s.total++
	s.byWho[who]++
	return sync.OnceFunc(func() { s.end(who) }), nil
}

func (s *sessions) end(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.byWho[who]--; s.byWho[who] == 0 {
		delete(s.byWho, who)
	}
}
