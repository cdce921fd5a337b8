package consensus

import (
	"context"

	"github.com/hashicorp/raft"

	"github.com/cloudless/cloudless/internal/run"
)

// leadership offers changes of this member's lead on out. The library's own channel drops values.
type leadership struct {
	raft *raft.Raft
	wake chan struct{} // holds one: something may have changed
	out  chan bool
}

func watchLeadership(r *raft.Raft, group *run.Group) *leadership {
	w := &leadership{raft: r, wake: make(chan struct{}, 1), out: make(chan bool)}
	observer := raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		if _, ok := o.Data.(raft.RaftState); ok {
			w.poke()
		}
		return false // nothing is to be sent; the filter is told of everything and cannot miss a thing
	})
	r.RegisterObserver(observer)
	w.poke() // a single member may have won before the observer was there
	group.Go("leadership", func(ctx context.Context) error {
		defer r.DeregisterObserver(observer)
		return w.loop(ctx)
	})
	return w
}

func (w *leadership) poke() {
	select {
	case w.wake <- struct{}{}:
	default: // it is awake already and has not looked yet
	}
}

// loop ends with the node. told is the term whose leadership the reader knows of, 0 for none.
func (w *leadership) loop(ctx context.Context) error {
	var told uint64
	for {
		now := w.term()
		var out chan<- bool
		if now != told {
			out = w.out
		}
		won := told == 0 // otherwise that lead is over, whatever came after it
		select {
		case out <- won:
			if told = 0; won {
				told = now
			}
		case <-w.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// term is the one in which this member leads, 0 when it does not.
func (w *leadership) term() uint64 {
	if w.raft.State() != raft.Leader {
		return 0
	}
	return w.raft.CurrentTerm()
}
