package upkeep

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/erasure"
	"github.com/cloudless/cloudless/chunkstore/place"
)

// What is under way at once: a wave of chunks, and of it a batch between each two nodes, of which atOnce
// pairs are at work. The nodes pace what they read and write.
const (
	waveChunks  = 2_048
	waveBytes   = 256 << 20
	batchChunks = 1_024
	batchBytes  = 32 << 20
	slowest     = 256 << 10 // bytes a second; a batch that is slower is given up, and tried again later
	maxTries    = 4_096     // chunks of which it is known that copying failed
)

// carryOut does what is to be done, the most urgent first, and looks at hints between the waves. It says
// how much was done, and why not all. members is the key of those for whom it was planned.
func (u *Upkeep) carryOut(ctx context.Context, members string, tasks []task) (done int, err error) {
	for len(tasks) > 0 && ctx.Err() == nil {
		n := cutWave(tasks)
		did, why := u.wave(ctx, members, tasks[:n])
		done, tasks = done+did, tasks[n:]
		u.state.waiting(len(tasks))
		select {
		case <-u.hints.due:
			why = errors.Join(why, u.mend(ctx))
		default:
		}
		if err == nil {
			err = why
		}
	}
	if err == nil {
		err = ctx.Err()
	}
	return done, err
}

// cutWave is how many of the tasks the next wave has.
func cutWave(tasks []task) int {
	return cut(tasks, waveChunks, waveBytes, func(t task) int64 { return t.bytes * int64(len(t.Copy)) })
}

// cut is how many tasks have no more than so many bytes together; one at least.
func cut(tasks []task, chunks int, bytes int64, of func(task) int64) int {
	for i, t := range tasks {
		if bytes -= of(t); i == chunks || i > 0 && bytes < 0 {
			return i
		}
	}
	return len(tasks)
}

// spot is a chunk on a node, pair two nodes between which chunks are copied.
type (
	spot struct{ digest, node string }
	pair struct{ to, from string }
)

// wave is some chunks on their way.
type wave struct {
	u       *Upkeep
	members string
	tasks   []task

	mu    sync.Mutex
	there map[spot]bool // what nodes said last that they have
	gone  map[spot]bool // what was dropped
	done  int           // copies made, and drops
	err   error         // the first
}

// wave makes copies, and of chunks that have all theirs drops what is too much.
func (u *Upkeep) wave(ctx context.Context, members string, tasks []task) (done int, err error) {
	w := &wave{u: u, members: members, tasks: tasks, there: map[spot]bool{}, gone: map[spot]bool{}}
	w.look(ctx, tasks, task.targets)
	w.copyAll(ctx)
	w.dropAll(ctx)
	return w.done, w.err
}

func (w *wave) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// each calls f for nodes, some at a time, and notes what fails.
func (w *wave) each(ctx context.Context, nodes []string, timeout time.Duration, f func(ctx context.Context, node string) error) {
	w.fail(together(ctx, len(nodes), func(ctx context.Context, i int) error {
		within, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		w.fail(f(within, nodes[i]))
		return nil
	}))
}

// look asks nodes which of the tasks' chunks they have. A write whose last copy was still on its way
// before may be complete by now, and who was to keep a chunk may have lost it.
func (w *wave) look(ctx context.Context, tasks []task, at func(task) []string) {
	ask := byNode(tasks, at)
	w.each(ctx, slices.Collect(maps.Keys(ask)), askTimeout, func(ctx context.Context, node string) error {
		missing, err := w.u.cfg.Nodes.Missing(ctx, node, ask[node]...)
		lacks := set(missing)
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, d := range ask[node] {
			w.there[spot{d, node}] = err == nil && !lacks[d]
		}
		return err
	})
}

// byNode gathers the chunks of tasks by nodes.
func byNode(tasks []task, at func(task) []string) map[string][]string {
	out := map[string][]string{}
	for _, t := range tasks {
		for _, node := range at(t) {
			out[node] = append(out[node], t.Digest)
		}
	}
	return out
}

// at tells whether nodes have a task's chunk.
func (w *wave) at(t task, nodes []string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !slices.ContainsFunc(nodes, func(id string) bool { return !w.there[spot{t.Digest, id}] })
}

// copyAll makes the copies that are not there.
func (w *wave) copyAll(ctx context.Context) {
	jobs := map[pair][]task{}
	for _, t := range w.tasks {
		for _, c := range t.Copy {
			if !w.there[spot{t.Digest, c.To}] {
				p := pair{c.To, w.u.source(t, c.From)}
				jobs[p] = append(jobs[p], t)
			}
		}
	}
	pairs := slices.Collect(maps.Keys(jobs))
	w.fail(together(ctx, len(pairs), func(ctx context.Context, i int) error {
		w.copyPair(ctx, pairs[i], jobs[pairs[i]])
		return nil
	}))
	for _, t := range w.tasks {
		if len(t.Copy) > 0 && w.at(t, t.targets()) {
			w.u.state.complete(t)
		}
	}
}

// source is the node that a chunk is copied from: the one that was planned or, when that has failed,
// another one that has it.
func (u *Upkeep) source(t task, planned string) string {
	if planned == "" {
		return "" // it is to be made of its group
	}
	i := slices.Index(t.holders, planned)
	return t.holders[(i+u.tries[t.Digest])%len(t.holders)]
}

// copyPair copies chunks from one node to another, a batch at a time. When nothing of one comes through
// it gives up: the next look finds the rest.
func (w *wave) copyPair(ctx context.Context, p pair, tasks []task) {
	for done := 1; len(tasks) > 0 && done > 0 && ctx.Err() == nil; {
		n := cut(tasks, batchChunks, batchBytes, func(t task) int64 { return t.bytes })
		done = w.copyBatch(ctx, p, tasks[:n])
		tasks = tasks[n:]
	}
}

func (w *wave) copyBatch(ctx context.Context, p pair, tasks []task) (done int) {
	bytes := int64(0)
	for _, t := range tasks {
		bytes += t.bytes
	}
	if p.from == "" {
		bytes *= erasure.Shards // so much is read and written to make it
	}
	within, cancel := context.WithTimeout(ctx, askTimeout+time.Duration(bytes/slowest)*time.Second)
	defer cancel()
	w.u.state.copying(len(tasks))
	defer w.u.state.copying(-len(tasks))
	got, err := w.bring(within, p, tasks)
	w.fail(err)
	has := set(got)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range tasks {
		if has[t.Digest] {
			done++
			w.there[spot{t.Digest, p.to}] = true
			delete(w.u.tries, t.Digest)
			delete(w.u.gone, t.Digest)
			w.u.state.made(t, p.to)
		} else if ctx.Err() == nil {
			w.u.failed(t)
			w.u.state.failed(t)
		}
	}
	w.done += done
	return done
}

// failed makes the next try copy a chunk from another node. Of too many, one is forgotten.
func (u *Upkeep) failed(t task) {
	if _, known := u.tries[t.Digest]; !known && len(u.tries) == maxTries {
		for d := range u.tries {
			delete(u.tries, d)
			break
		}
	}
	u.tries[t.Digest]++
}

// dropAll drops what is too much of those chunks that all who are to keep them have.
func (w *wave) dropAll(ctx context.Context) {
	var ready, safe []task
	for _, t := range w.tasks {
		if len(t.Drop) > 0 && w.at(t, t.targets()) {
			ready = append(ready, t)
		}
	}
	w.look(ctx, ready, task.keepers)
	for _, t := range ready {
		if keep := t.keepers(); len(keep) > 0 && w.at(t, keep) {
			safe = append(safe, t)
		}
	}
	members := w.u.cfg.Members().Members
	if len(safe) > 0 && keyOf(members) != w.members {
		w.fail(errMoved) // what was too much may be needed now
		return
	}
	safe = slices.DeleteFunc(safe, func(t task) bool { return w.wanted(t, len(members)) })
	drops := map[string][]task{}
	for _, t := range safe {
		for _, node := range t.Drop {
			drops[node] = append(drops[node], t)
		}
	}
	w.each(ctx, slices.Collect(maps.Keys(drops)), dropTimeout, func(ctx context.Context, node string) error {
		return w.drop(ctx, node, drops[node])
	})
	for _, t := range safe {
		if !slices.ContainsFunc(t.Drop, func(id string) bool { return !w.gone[spot{t.Digest, id}] }) {
			w.u.state.tidied(t)
		}
	}
}

// wanted tells whether the chunk is to have more copies than was planned: an object that was put since may
// name it, whose copies are those that were too much.
func (w *wave) wanted(t task, members int) bool {
	id, _ := parse(t.Digest)
	ref, err := w.u.cfg.Refs.Reference(id)
	if err == nil && place.Copies(ref.R, members) > t.Want {
		err = errMoved
	}
	w.fail(err)
	return err != nil
}

// drop removes copies from a node. What an upload pins there stays, which is no failure, and is tried again.
func (w *wave) drop(ctx context.Context, node string, tasks []task) error {
	kept, err := w.u.cfg.Nodes.Drop(ctx, node, digestsOf(tasks)...)
	stays, gone := set(kept), []task(nil)
	for _, t := range tasks {
		if err == nil && !stays[t.Digest] {
			gone = append(gone, t)
		}
	}
	failed := 0
	if err != nil {
		failed = len(tasks)
	}
	w.u.state.dropped(node, gone, failed)
	if err == nil && len(kept) > 0 {
		err = api.Errorf(api.CodeConflict, "%d copies stay where they do not belong while an upload needs them there", len(kept))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done += len(gone)
	for _, t := range gone {
		w.gone[spot{t.Digest, node}] = true
	}
	return err
}

func digestsOf(tasks []task) []string {
	out := make([]string, len(tasks))
	for i, t := range tasks {
		out[i] = t.Digest
	}
	return out
}
