package upkeep

import (
	"slices"

	"github.com/cloudless/cloudless/chunkstore/place"
)

// maxWork is how many chunks one look keeps to be worked on, some MiB of memory; the others are found
// again by the next.
const maxWork = 8_192

// task is what is to be done for one chunk.
type task struct {
	place.Repair
	bytes   int64
	holders []string // who has it
}

// keepers are those who have the chunk when all is done.
func (t task) keepers() []string {
	var out []string
	for _, id := range t.holders {
		if !slices.Contains(t.Drop, id) {
			out = append(out, id)
		}
	}
	return append(out, t.targets()...)
}

// targets are those who are to get it.
func (t task) targets() []string {
	out := make([]string, len(t.Copy))
	for i, c := range t.Copy {
		out[i] = c.To
	}
	return out
}

// worklist keeps the most urgent of the tasks that are added.
type worklist struct {
	tasks []task
	more  bool // some were left out
}

func (w *worklist) add(t task) {
	if w.tasks = append(w.tasks, t); len(w.tasks) >= 2*maxWork {
		w.cut()
	}
}

func (w *worklist) cut() {
	slices.SortFunc(w.tasks, func(a, b task) int { return a.Compare(b.Repair) })
	if len(w.tasks) > maxWork {
		clear(w.tasks[maxWork:])
		w.tasks, w.more = w.tasks[:maxWork], true
	}
}

// sorted is what was kept, the most urgent first.
func (w *worklist) sorted() []task {
	w.cut()
	return w.tasks
}
