package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// storagePoll is how often the report is asked for, by --watch and --wait.
const storagePoll = 2 * time.Second

func storageCommand(e *Env) *cobra.Command {
	return newGroup("storage", "Keep files in the cluster's object store, and look after it",
		"  cloudless storage bucket create photos\n  cloudless storage object put photos 2026/sea.jpg sea.jpg\n  cloudless storage status",
		bucketCommand(e), objectCommand(e), uploadCommand(e), storageStatus(e), storageScrub(e), storageRepair(e), storageCollect(e), storageBackup(e), storageRestore(e))
}

func storageStatus(e *Env) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show how the object store fares: room, missing copies, repair, scrub", Args: cobra.NoArgs,
		Example: "  cloudless storage status\n  cloudless storage status --watch",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			for {
				r, err := c.StorageReport(ctx)
				if watch && api.CodeOf(err) == api.CodeUnavailable {
					r, err = again(ctx, e, func() (api.StorageReport, error) { return c.StorageReport(ctx) })
				}
				if err != nil {
					return err
				}
				if err := e.printStorage(r, watch); err != nil || !watch {
					return err
				}
				if err := pause(ctx, storagePoll); err != nil {
					return err
				}
			}
		}),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it anew every two seconds")
	return cmd
}

func (e *Env) printStorage(r api.StorageReport, watch bool) error {
	if watch && e.shows("json") {
		return json.NewEncoder(e.Out).Encode(r) // a line each
	}
	if done, err := e.machine(r); done {
		return err
	}
	if e.names() {
		return printItems(e, r.Nodes, storageNodeView(e, r))
	}
	if watch && isTerminal(e.Out) {
		fmt.Fprint(e.Out, "\x1b[H\x1b[2J")
	}
	if err := e.fields(storageFields(e, r)); err != nil {
		return err
	}
	for _, why := range r.Reasons {
		fmt.Fprintln(e.Out, e.paint(yellow, "warning: "+why))
	}
	fmt.Fprintln(e.Out)
	return printItems(e, r.Nodes, storageNodeView(e, r))
}

func storageFields(e *Env, r api.StorageReport) [][2]string {
	u := r.Upkeep
	fields := [][2]string{
		{"Health", r.Health},
		{"Objects", fmt.Sprintf("%d in %d buckets, %s", r.Objects, r.Buckets, human(r.Bytes))},
		{"Used", fmt.Sprintf("%s of %s (%s)", human(r.Used), human(r.Capacity), percent(r.Used, r.Capacity))},
		{"Copies", fmt.Sprintf("%d of chunks", r.Chunks)},
	}
	if !u.LookedAt.IsZero() {
		fields = append(fields, [][2]string{
			{"Missing", fmt.Sprintf("%d copies of %d chunks", u.Missing, u.Short)}, {"Repair", upkeepLine(u)}, {"Moving", movingLine(u)},
			{"Looked", fmt.Sprintf("%s, at %d chunks", e.age(u.LookedAt), u.Chunks)},
		}...)
	}
	if r.Quarantined > 0 {
		fields = append(fields, [2]string{"Damaged", fmt.Sprintf("%d copies, moved aside", r.Quarantined)})
	}
	if held := heldLine(e, r); held != "" {
		fields = append(fields, [2]string{"Collection", held + "; 'cloudless storage collect --anyway' goes on"})
	}
	return fields
}

// heldLine tells what is not collected though nobody refers to it.
func heldLine(e *Env, r api.StorageReport) string {
	switch {
	case r.HeldUntil.After(e.Now()):
		return "held until " + r.HeldUntil.UTC().Format(time.RFC3339)
	case r.Held > 0:
		return human(r.Held) + " of what was deleted are kept for a day, as it is much at once"
	}
	return ""
}

// upkeepLine tells what is being done about missing copies.
func upkeepLine(u api.StorageUpkeep) string {
	done := fmt.Sprintf("%d copies made", u.Copied)
	if u.Failed > 0 {
		done += fmt.Sprintf(", %d failed", u.Failed)
	}
	switch {
	case u.Trouble != "":
		return "in trouble: " + u.Trouble
	case u.Copying+u.Waiting > 0:
		return fmt.Sprintf("%d under way, %d waiting, %s/s; %s", u.Copying, u.Waiting, human(u.Rate), done)
	case u.Looking:
		return fmt.Sprintf("looking at all chunks (%d so far); %s", u.Looked, done)
	}
	return "idle; " + done
}

func movingLine(u api.StorageUpkeep) string {
	return fmt.Sprintf("%d chunks to move, %d copies moved, %d dropped", u.Misplaced, u.Moved, u.Dropped)
}

func storageNodeView(e *Env, r api.StorageReport) view[api.StorageNode] {
	upkeep := map[string]api.NodeUpkeep{}
	for _, n := range r.Upkeep.Nodes {
		upkeep[n.Node] = n
	}
	return view[api.StorageNode]{
		name: func(n api.StorageNode) string { return n.Name },
		columns: []column[api.StorageNode]{
			{"NODE", false, func(n api.StorageNode) string { return n.Name }},
			{"STATE", false, func(n api.StorageNode) string { return string(n.State) }},
			{"ZONE", false, func(n api.StorageNode) string { return n.Zone }},
			{"USED", false, func(n api.StorageNode) string { return human(n.Stats.Used) }},
			{"CAPACITY", false, func(n api.StorageNode) string { return human(n.Stats.Capacity) }},
			{"CHUNKS", false, func(n api.StorageNode) string { return fmt.Sprint(n.Stats.Chunks) }},
			{"TO GET", false, func(n api.StorageNode) string { return fmt.Sprint(upkeep[n.ID].Gain) }},
			{"TO LOSE", false, func(n api.StorageNode) string { return fmt.Sprint(upkeep[n.ID].Lose) }},
			{"SCRUBBED", false, func(n api.StorageNode) string { return scrubbed(e, n.Stats) }},
			{"SAFE TO REMOVE", true, func(n api.StorageNode) string { return yesNo(upkeep[n.ID].SafeToRemove) }},
			{"DAMAGED", true, func(n api.StorageNode) string { return fmt.Sprint(n.Stats.Quarantined) }},
			{"REGION", true, func(n api.StorageNode) string { return n.Region }},
			{"ID", true, func(n api.StorageNode) string { return n.ID }},
			{"TROUBLE", true, func(n api.StorageNode) string { return n.Stats.Failed + upkeep[n.ID].Silent }},
		},
	}
}

// scrubbed tells how far the pass under way is, or when the last one ended.
func scrubbed(e *Env, s api.StoreStats) string {
	if s.Scrubbed > 0 {
		return percent(min(s.Scrubbed, s.Chunks), s.Chunks) + " of a pass"
	}
	return e.age(s.ScrubbedAt)
}

// storageWait are --wait and --timeout of work on the store.
type storageWait struct {
	wait    bool
	timeout time.Duration
}

func (w *storageWait) add(cmd *cobra.Command, until string) {
	cmd.Flags().BoolVar(&w.wait, "wait", false, "return only when "+until)
	cmd.Flags().DurationVar(&w.timeout, "timeout", time.Hour, "how long to wait at most")
}

// storageWork is work on the store that is asked for, and may be waited for.
type storageWork struct {
	name, asked, done string // what is printed
	ask               func() error
	left              func(before, now api.StorageReport) (left string, done bool)
}

func (w *storageWait) run(ctx context.Context, e *Env, c *client.Client, work storageWork) error {
	before, err := c.StorageReport(ctx)
	if err == nil {
		err = work.ask()
	}
	if err != nil {
		return err
	}
	if !w.wait {
		return e.did(work.name, "%s; see 'cloudless storage status'", work.asked)
	}
	err = w.until(ctx, e, c, func(now api.StorageReport) (string, bool) { return work.left(before, now) })
	return orElse(err, func() error { return e.did(work.name, "%s", work.done) })
}

// until asks for the report again and again, until done says so. done also says what is left.
func (w *storageWait) until(ctx context.Context, e *Env, c *client.Client, done func(api.StorageReport) (left string, ok bool)) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	p := e.progress()
	defer p.clear()
	last := "nothing is known yet"
	for {
		r, err := again(ctx, e, func() (api.StorageReport, error) { return c.StorageReport(ctx) })
		if err == nil {
			left, ok := done(r)
			if ok {
				return nil
			}
			last = left
			p.waiting(left)
			err = pause(ctx, storagePoll)
		}
		switch {
		case ctx.Err() == context.DeadlineExceeded:
			return api.Errorf(api.CodeTimeout, "not done after %s: %s", w.timeout, last).WithHint("the work goes on; see 'cloudless storage status'")
		case err != nil:
			return err
		}
	}
}

func storageScrub(e *Env) *cobra.Command {
	var node string
	var w storageWait
	cmd := &cobra.Command{
		Use: "scrub", Short: "Make nodes read and check all their chunks now", Args: cobra.NoArgs,
		Long:    "Make one node or all nodes read every chunk they keep and hold it against its digest. Damaged chunks are moved aside and repaired from other nodes.\nNodes do this by themselves, slowly, within 14 days.",
		Example: "  cloudless storage scrub\n  cloudless storage scrub --node edge-1 --wait",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			return w.run(ctx, e, c, storageWork{
				name: dash(node), asked: "scrub asked for", done: "scrubbed",
				ask:  func() error { return c.ScrubStorage(ctx, node) },
				left: func(before, now api.StorageReport) (string, bool) { return unscrubbed(before, now, node) },
			})
		}),
	}
	cmd.Flags().StringVar(&node, "node", "", "only this node")
	w.add(cmd, "the pass has ended")
	return cmd
}

// unscrubbed tells which nodes have not ended a pass since before. Nodes that cannot be reached are not waited for.
func unscrubbed(before, now api.StorageReport, node string) (left string, done bool) {
	ended := map[string]time.Time{}
	for _, n := range before.Nodes {
		ended[n.ID] = n.Stats.ScrubbedAt
	}
	for _, n := range now.Nodes {
		if node != "" && node != n.Name && node != n.ID || n.State == api.StoreLost || n.Stats.ScrubbedAt.After(ended[n.ID]) {
			continue
		}
		return fmt.Sprintf("node %s has read %d of %d chunks", n.Name, n.Stats.Scrubbed, n.Stats.Chunks), false
	}
	return "", true
}

func storageRepair(e *Env) *cobra.Command {
	var w storageWait
	cmd := &cobra.Command{
		Use: "repair", Short: "Look for missing copies of chunks now, and make them", Args: cobra.NoArgs,
		Long:    "Look at all chunks now and make the copies that are missing. The cluster does this by itself; this makes it begin at once.",
		Example: "  cloudless storage repair --wait",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			return w.run(ctx, e, c, storageWork{
				name: "repair", asked: "repair asked for", done: "every chunk has its copies",
				ask:  func() error { return c.RepairStorage(ctx) },
				left: func(before, now api.StorageReport) (string, bool) { return unrepaired(before.Upkeep, now.Upkeep) },
			})
		}),
	}
	w.add(cmd, "every chunk has its copies")
	return cmd
}

// unrepaired tells what is left: a look at all chunks that began after the request, or copies.
func unrepaired(before, now api.StorageUpkeep) (left string, done bool) {
	if now.Looking || !now.LookedAt.After(before.LookedAt) {
		return "waiting for a look at all chunks; " + upkeepLine(now), false
	}
	return fmt.Sprintf("%d copies of %d chunks are missing: %s", now.Missing, now.Short, upkeepLine(now)), now.Short == 0 && now.Copying+now.Waiting == 0
}

func storageCollect(e *Env) *cobra.Command {
	var anyway bool
	cmd := &cobra.Command{
		Use: "collect", Short: "Delete chunks that no object refers to now", Args: cobra.NoArgs,
		Long:    "Delete chunks that no object refers to. Nodes do this by themselves. A pass that would delete much, or that comes within a day of a restore, is held until somebody has looked; --anyway lets it go on.",
		Example: "  cloudless storage collect\n  cloudless storage collect --anyway",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if anyway {
				if err := e.confirm("delete chunks that no object refers to, those that are held too,"); err != nil {
					return err
				}
			}
			err := c.CollectStorage(ctx, anyway)
			return orElse(err, func() error { return e.did("collect", "collection asked for") })
		}),
	}
	cmd.Flags().BoolVar(&anyway, "anyway", false, "also what is being held")
	return cmd
}

// completeBuckets offers the names of buckets.
func (e *Env) completeBuckets() completion {
	return e.complete(func(ctx context.Context, c *client.Client) ([]string, error) {
		list, err := c.Buckets(ctx, api.ListQuery{})
		var names []string
		for _, b := range list.Items {
			names = append(names, b.Name)
		}
		return slices.Clip(names), err
	})
}
