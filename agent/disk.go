package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// A disk counts as full when less than leastRoom is free, or than a leastPart of one that is small:
// before writes fail, since the ledger must be opened anew after one has. It has room again when twice
// as much is free, so that a disk at the edge is not told over and over.
const (
	leastRoom    = api.Bytes(64 << 20)
	leastPart    = 20
	diskInterval = time.Second
)

// disk is what there is under the data folder; nothing when that cannot be told.
type disk struct{ total, free api.Bytes }

func (a *Agent) storage() disk {
	var st unix.Statfs_t
	if err := unix.Statfs(a.cfg.DataDir, &st); err != nil {
		return disk{}
	}
	size := api.Bytes(st.Bsize)
	return disk{total: api.Bytes(st.Blocks) * size, free: api.Bytes(st.Bavail) * size}
}

// diskWatch keeps an eye on the disk under the data folder. While it is full every heartbeat says so,
// and the coordinators place nothing new here; what runs goes on.
type diskWatch struct {
	dir    string
	look   func() disk
	failed func() error           // of the ledger, which no room mends before the next start
	tell   func(text string)      // once for each change; "" when there is room again
	text   atomic.Pointer[string] // nil before the first look
}

// full says why nothing new should come; nothing while there is room.
func (w *diskWatch) full() string {
	if text := w.text.Load(); text != nil {
		return *text
	}
	return ""
}

// run ends with the agent.
func (w *diskWatch) run(ctx context.Context) error {
	for {
		w.step()
		if run.Sleep(ctx, diskInterval) != nil {
			return nil
		}
	}
}

func (w *diskWatch) step() {
	was, now := w.full(), w.judge()
	w.text.Store(&now)
	if (was == "") != (now == "") {
		w.tell(now)
	}
}

func (w *diskWatch) judge() string {
	if err := w.failed(); err != nil {
		return err.Error()
	}
	d := w.look()
	least := min(leastRoom, d.total/leastPart)
	if w.full() != "" {
		least *= 2
	}
	if d.free >= least {
		return ""
	}
	return fmt.Sprintf("no space left: %d MiB of %d MiB are free under %s, and at least %d MiB are needed", d.free>>20, d.total>>20, w.dir, least>>20)
}

// tellDisk makes an event of a disk that is full, or no longer.
func (a *Agent) tellDisk(text string) {
	e := api.Event{
		Time: time.Now().UTC(), Type: api.EventDiskFull, Severity: api.SeverityError, Resource: "node/" + a.id.Name, Node: a.id.ID,
		Message: "nothing new is placed on this node while its disk is full: " + text,
	}
	if text == "" {
		e.Type, e.Severity, e.Message = api.EventDiskRoom, api.SeverityInfo, "the disk of this node has room again"
	}
	a.log.Warn().Str("type", e.Type).Msg(e.Message)
	a.events.add(e)
}
