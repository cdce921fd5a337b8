package upkeep

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/internal/run"
)

// atOnce is how many nodes are asked at the same time.
const atOnce = 8

// crew is the members as one look sees them.
type crew struct {
	named   []api.StoreMember
	members []place.Member // those that have been silent for too long are lost
}

// crew takes the members as they are now.
func (u *Upkeep) crew() crew {
	named := u.cfg.Members().Members
	return crew{named, gateway.PlaceMembers(named)}
}

// begin is crew for a look at all chunks, which is for these members and no others.
func (u *Upkeep) begin() crew {
	c := u.crew()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = keyOf(c.named)
	return c
}

// keyOf is equal for members between whom chunks are to be spread in the same way. Weights are left out:
// they change a little now and then, and the hourly look sees to them.
func keyOf(members []api.StoreMember) string {
	var b strings.Builder
	for _, m := range members {
		fmt.Fprintf(&b, "%s/%s/%s\n", m.ID, m.Zone, m.State)
	}
	return b.String()
}

// ask calls f for each member that can be reached, some at a time. When one does not answer, nobody
// knows what it has: nothing is planned, and all is asked again soon. When it has not answered for long,
// it counts as lost in this look.
func (u *Upkeep) ask(ctx context.Context, c crew, f func(ctx context.Context, i int) error) error {
	return together(ctx, len(c.members), func(ctx context.Context, i int) error {
		m := &c.members[i]
		if m.State == place.Lost {
			return nil
		}
		within, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		err := f(within, i)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if u.heard(m.ID, err, time.Now()) {
			m.State = place.Lost
			return nil
		}
		if err != nil {
			return api.Errorf(api.CodeUnavailable, "node %s does not tell what it has: %w", c.named[i].Name, err).
				WithHint("if it does not come back, remove it with 'cloudless node remove %s'", c.named[i].Name)
		}
		return nil
	})
}

// heard notes whether a member answered, and tells whether it has not for long.
func (u *Upkeep) heard(id string, err error, now time.Time) (lost bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err == nil {
		delete(u.silent, id)
		return false
	}
	since, ok := u.silent[id]
	if !ok {
		since = now
		u.silent[id] = now
	}
	return now.Sub(since) >= patience
}

// together calls f for 0 to n-1, some at a time. The first error breaks off the others.
func together(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	g := run.New(ctx)
	defer g.Stop()
	var next atomic.Int64
	for range min(n, atOnce) {
		g.Go("nodes", func(ctx context.Context) error {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := f(ctx, int(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}
