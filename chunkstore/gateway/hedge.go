package gateway

import (
	"sync"
	"time"
)

// How long a node may take to give a chunk before another is asked too: what it takes mostly, by what it
// took of late, but never less than hedgeLeast nor more than hedgeMost; hedgeFirst while it has given none.
const (
	hedgeLeast = 100 * time.Millisecond
	hedgeFirst = 500 * time.Millisecond
	hedgeMost  = 2 * time.Second
	// maxAsked is how many are asked at once: where all are slow, more make all of them slower. Two that
	// hang do not keep a third from being asked.
	maxAsked = 3
	// maxTempos is of how many nodes is known what they take.
	maxTempos = 4_096
)

// tempos are how long nodes took of late.
type tempos struct {
	mu    sync.Mutex
	nodes map[string]tempo
}

// tempo is the mean and the mean deviation from it, as TCP keeps them for when to send again.
type tempo struct{ mean, deviation time.Duration }

func (t tempo) after(took time.Duration) tempo {
	return tempo{t.mean + (took-t.mean)/8, t.deviation + ((took-t.mean).Abs()-t.deviation)/4}
}

func (t tempo) patience() time.Duration {
	return min(max(t.mean+4*t.deviation, hedgeLeast), hedgeMost)
}

// note takes in how long a node took.
func (t *tempos) note(node string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, known := t.nodes[node]
	switch {
	case known:
		t.nodes[node] = was.after(took)
		return
	case t.nodes == nil || len(t.nodes) == maxTempos:
		t.nodes = map[string]tempo{} // of so many that most have gone
	}
	t.nodes[node] = tempo{took, took / 2}
}

// patience is how long a node may take.
func (t *tempos) patience(node string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known, ok := t.nodes[node]; ok {
		return known.patience()
	}
	return hedgeFirst
}
