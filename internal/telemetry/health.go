package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// checkTimeout bounds one answer of /health or /ready, all its checks together.
const checkTimeout = 2 * time.Second

// Check returns nil when what it looks at is well. It must return soon after ctx ends.
type Check func(ctx context.Context) error

type checks struct {
	mu  sync.Mutex
	all []namedCheck
}

type namedCheck struct {
	name  string
	ready bool
	check Check
}

type checkAnswer struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

type healthAnswer struct {
	Status string                 `json:"status"` // ok | failing
	Checks map[string]checkAnswer `json:"checks"`
}

// AddCheck adds a check. One that is about readiness only (ready) counts at /ready: the role is well
// but cannot serve yet. Any other counts at both.
func (t *Telemetry) AddCheck(name string, ready bool, f Check) {
	t.checks.mu.Lock()
	defer t.checks.mu.Unlock()
	t.checks.all = append(t.checks.all, namedCheck{name, ready, f})
}

// Health answers 200 while the role works, 503 with the reason when a restart is called for.
func (t *Telemetry) Health() http.Handler { return t.checks.handler(false) }

// Ready answers 200 while the role can serve, else 503 with the reason.
func (t *Telemetry) Ready() http.Handler { return t.checks.handler(true) }

func (c *checks) handler(ready bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
		defer cancel()
		answer := c.run(ctx, ready)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if answer.Status != "ok" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(answer) // the client has gone; there is nobody to tell
	})
}

func (c *checks) run(ctx context.Context, ready bool) healthAnswer {
	c.mu.Lock()
	all := slices.Clone(c.all)
	c.mu.Unlock()
	answer := healthAnswer{Status: "ok", Checks: map[string]checkAnswer{}}
	for _, n := range all {
		if n.ready && !ready {
			continue
		}
		err := n.run(ctx)
		answer.Checks[n.name] = checkAnswer{OK: err == nil, Error: text(err)}
		if err != nil {
			answer.Status = "failing"
		}
	}
	return answer
}

// run turns a panic into a failure: what watches over the role must not bring it down.
func (n namedCheck) run(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in check: %v", p)
		}
	}()
	return n.check(ctx)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
