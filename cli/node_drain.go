package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// Times of waiting for a drain.
const (
	drainPoll  = 200 * time.Millisecond
	drainGrace = 15 * time.Second // after its deadline, for what is stopped to end
)

// drainTimeout is how long a wait for a drain with a deadline, if not 0, lasts at most.
func drainTimeout(deadline time.Duration) time.Duration {
	if deadline > 0 {
		return deadline + drainGrace
	}
	return defaultWait
}

func nodeDrain(e *Env) *cobra.Command {
	var req api.DrainRequest
	var deadline, timeout time.Duration
	var dryRun, waits bool
	cmd := &cobra.Command{
		Use: "drain NODE", Short: "Move everything off a node", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeNodes(),
		Example: "  cloudless node drain edge-1 --graceful --deadline 5m --wait",
	}
	cmd.RunE = e.with(func(ctx context.Context, c *client.Client, args []string) error {
		req.Deadline = api.Duration(deadline)
		if !cmd.Flags().Changed("timeout") {
			timeout = drainTimeout(deadline)
		}
		return e.onNode(ctx, c, args[0], false, func(id string) error {
			if dryRun {
				return e.tellDrain(ctx, c, id)
			}
			n, err := e.drain(ctx, c, id, req)
			if err == nil && waits {
				n, err = e.waitDrained(ctx, c, n, timeout)
			}
			return orElse(err, func() error { return e.nodeOutcome(n, id, drained(n)) })
		})
	})
	cmd.Flags().BoolVar(&req.Graceful, "graceful", false, "start each replacement before its replica stops")
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "stop what is left after this time, and wait little longer unless --timeout says so (default: never)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would move, and move nothing")
	cmd.Flags().BoolVar(&waits, "wait", false, "return only when nothing runs on the node and nothing needs its chunks")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultWait, "how long to wait at most")
	return cmd
}

// tellDrain says what a drain would do.
func (e *Env) tellDrain(ctx context.Context, c *client.Client, id string) error {
	n, err := c.Node(ctx, id, 0, 0)
	return orElse(err, func() error {
		return e.nodeOutcome(n, id, fmt.Sprintf("would be drained of %d replicas", live(n).Replicas))
	})
}

// drain begins one, if whoever is there agrees.
func (e *Env) drain(ctx context.Context, c *client.Client, id string, req api.DrainRequest) (api.Node, error) {
	n, err := c.Node(ctx, id, 0, 0)
	if err == nil {
		err = e.confirm(fmt.Sprintf("drain node %s (%d replicas)", n.Name, live(n).Replicas))
	}
	if err != nil {
		return n, err
	}
	return c.Drain(ctx, id, req)
}

func drained(n api.Node) string {
	if isDrained(n) {
		return "drained"
	}
	return "draining"
}

// isDrained tells whether a node has no replicas, and no chunk of the object store that is needed there.
func isDrained(n api.Node) bool {
	return n.Status != nil && n.Status.Replicas == 0 && (n.StoreCapacity == 0 || n.Status.Upkeep != nil && n.Status.Upkeep.SafeToRemove)
}

// remaining says what keeps a node from being drained.
func remaining(n api.Node) string {
	var parts []string
	if replicas := live(n).Replicas; replicas > 0 {
		parts = append(parts, count(replicas, "replica"))
	}
	switch u := live(n).Upkeep; {
	case n.StoreCapacity == 0 || u != nil && u.SafeToRemove:
	case u == nil || u.State != api.StoreDraining:
		parts = append(parts, "chunks to be looked at")
	default:
		parts = append(parts, count(int(u.Chunks), "chunk")+" needed there")
	}
	who := "node " + n.Name
	if n.State != api.NodeDraining {
		who += fmt.Sprintf(", which is %s,", n.State)
	}
	return who + " still has " + strings.Join(parts, " and ")
}

// waitDrained returns when the node is empty; an error says what is left when the time is over, or that
// somebody has ended the drain, at whose beginning the node was as in drained.
func (e *Env) waitDrained(ctx context.Context, c *client.Client, drained api.Node, timeout time.Duration) (api.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	p := e.progress()
	defer p.clear()
	last := drained
	for {
		n, err := again(ctx, e, func() (api.Node, error) { return c.Node(ctx, drained.ID, 0, 0) })
		if err == nil {
			last = n
			switch {
			case n.Drain == nil && n.ModifyIndex > drained.ModifyIndex:
				return n, api.Errorf(api.CodeConflict, "the drain of node %s was ended by somebody else", n.Name).WithHint("see 'cloudless event list --resource node/%s'", n.Name)
			case isDrained(n):
				return n, nil
			}
			p.waiting(remaining(n))
			err = pause(ctx, drainPoll)
		}
		switch {
		case api.CodeOf(err) == api.CodeTimeout || ctx.Err() == context.DeadlineExceeded:
			return last, api.Errorf(api.CodeTimeout, "not drained after %s: %s", timeout, remaining(last)).
				WithHint("the drain goes on; see 'cloudless node describe %s', and 'cloudless storage status' for chunks", last.Name)
		case err != nil:
			return last, err
		}
	}
}
