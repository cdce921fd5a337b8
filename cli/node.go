package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func nodeCommand(e *Env) *cobra.Command {
	cmd := newGroup("node", "See and manage nodes", "  cloudless node list\n  cloudless node drain edge-1 --graceful --wait",
		nodeList(e), nodeGet(e), nodeDescribe(e), nodeDrain(e),
		nodeMark(e, "cordon", "Keep new replicas off a node", "cordoned", (*client.Client).Cordon),
		nodeMark(e, "uncordon", "Let a node take replicas again, and end its drain", "uncordoned", (*client.Client).Uncordon),
		nodeRemove(e), nodeRevoke(e))
	cmd.Aliases = []string{"nodes"}
	return cmd
}

func (e *Env) nodeView() view[api.Node] {
	return view[api.Node]{
		name: func(n api.Node) string { return n.Name },
		columns: []column[api.Node]{
			{"NAME", false, func(n api.Node) string { return n.Name }},
			{"STATE", false, func(n api.Node) string { return string(n.State) }},
			{"REGION", false, func(n api.Node) string { return n.Region }},
			{"ZONE", false, func(n api.Node) string { return n.Zone }},
			{"RUNTIMES", false, runtimes},
			{"REPLICAS", false, func(n api.Node) string { return fmt.Sprint(live(n).Replicas) }},
			{"CPU", false, func(n api.Node) string { return live(n).Allocated.CPU.String() + "/" + n.Capacity.CPU.String() }},
			{"MEMORY", false, func(n api.Node) string { return compact(live(n).Allocated.Memory) + "/" + compact(n.Capacity.Memory) }},
			{"AGE", false, func(n api.Node) string { return e.age(n.JoinedAt) }},
			{"ID", true, func(n api.Node) string { return n.ID }},
			{"ARCH", true, func(n api.Node) string { return n.OS + "/" + n.Arch }},
			{"VERSION", true, func(n api.Node) string { return n.Version }},
			{"ADDRESS", true, func(n api.Node) string { return n.Addr.Node }},
			{"CHUNKS", true, chunksOf},
			{"RTT", true, func(n api.Node) string { return fmt.Sprintf("%.1fms", live(n).RTTMillis) }},
			{"LABELS", true, func(n api.Node) string { return labels(n.Labels) }},
			{"REASON", true, func(n api.Node) string { return n.Reason }},
		},
	}
}

func live(n api.Node) api.NodeStatus {
	if n.Status == nil {
		return api.NodeStatus{}
	}
	return *n.Status
}

// chunksOf tells what a node keeps of the object store.
func chunksOf(n api.Node) string {
	s := live(n).ChunkStore
	if s == nil {
		return ""
	}
	text := fmt.Sprintf("%d, %s of %s", s.Chunks, human(s.Used), human(s.Capacity))
	if s.Failed != "" {
		text += ", takes none: " + s.Failed
	} else if s.Full {
		text += ", full"
	}
	return text
}

// upkeepOf tells what is to be done with a node's chunks.
func upkeepOf(n api.Node) string {
	u := live(n).Upkeep
	if u == nil {
		return ""
	}
	text := fmt.Sprintf("%d to get, %d to let go", u.Gain, u.Lose)
	switch {
	case u.SafeToRemove:
		text += ", safe to remove"
	case u.State == api.StoreDraining:
		text += fmt.Sprintf(", not safe to remove: %d chunks are needed there", u.Chunks)
	case u.Silent != "":
		text += ", " + u.Silent
	}
	return text
}

func runtimes(n api.Node) string {
	var out []string
	if n.Runtimes.WasmEngine != "" {
		out = append(out, "wasm")
	}
	if n.Runtimes.Containers {
		out = append(out, "containers")
	}
	return strings.Join(out, ",")
}

func nodeList(e *Env) *cobra.Command {
	var f listFlags
	var region, zone string
	var extra []string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List nodes", Args: cobra.NoArgs,
		Example: "  cloudless node list --region eu --labels disk=ssd\n  cloudless node list -o wide",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if _, err := pairs("--labels", extra); err != nil {
				return err
			}
			f.selector = append(f.selector, extra...)
			q, err := f.query(e, false)
			if err != nil {
				return err
			}
			there := func(n api.Node) bool { return (region == "" || n.Region == region) && (zone == "" || n.Zone == zone) }
			return listing[api.Node]{&f, e.nodeView(), nodesThat(there)}.run(ctx, e, c, q)
		}),
	}
	f.add(cmd)
	cmd.Flags().StringVar(&region, "region", "", "of this region only")
	cmd.Flags().StringVar(&zone, "zone", "", "of this zone only")
	cmd.Flags().StringSliceVar(&extra, "labels", nil, "only with these labels, k=v")
	return cmd
}

func nodeGet(e *Env) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "get NODE", Short: "Show a node", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeNodes(),
		Example: "  cloudless node get edge-1 -o yaml\n  cloudless node get edge-1 --watch",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			return e.onNode(ctx, c, args[0], false, func(id string) error {
				n, err := c.Node(ctx, id, 0, 0)
				if err != nil || !watch {
					return orElse(err, func() error { return printOne(e, n, e.nodeView()) })
				}
				only := func(other api.Node) bool { return other.ID == n.ID }
				return listing[api.Node]{&listFlags{watch: true}, e.nodeView(), nodesThat(only)}.run(ctx, e, c, api.ListQuery{})
			})
		}),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show changes as they come")
	return cmd
}

// nodesThat lists the nodes that keep says yes to.
func nodesThat(keep func(api.Node) bool) func(context.Context, *client.Client, api.ListQuery) (api.List[api.Node], error) {
	return func(ctx context.Context, c *client.Client, q api.ListQuery) (api.List[api.Node], error) {
		list, err := c.Nodes(ctx, q)
		list.Items = slices.DeleteFunc(list.Items, func(n api.Node) bool { return !keep(n) })
		return list, err
	}
}

func nodeDescribe(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "describe NODE", Short: "Show everything about a node", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeNodes(),
		Example: "  cloudless node describe edge-1",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			return e.onNode(ctx, c, args[0], false, func(id string) error {
				n, err := c.Node(ctx, id, 0, 0)
				return orElse(err, func() error { return e.describeNode(ctx, c, n) })
			})
		}),
	}
}

func (e *Env) describeNode(ctx context.Context, c *client.Client, n api.Node) error {
	if done, err := e.machine(n); done {
		return err
	}
	s := live(n)
	var taints []string
	for _, t := range n.Taints {
		taints = append(taints, t.Key+"="+t.Value+":"+t.Effect)
	}
	err := e.fields([][2]string{
		{"Name", n.Name}, {"ID", n.ID}, {"State", string(n.State)}, {"Reason", n.Reason}, {"Region", n.Region}, {"Zone", n.Zone},
		{"Labels", labels(n.Labels)}, {"Taints", strings.Join(taints, ",")}, {"Platform", n.OS + "/" + n.Arch}, {"Version", n.Version},
		{"Node port", n.Addr.Node}, {"Ingress", n.Addr.Ingress}, {"Wasm", n.Runtimes.WasmEngine},
		{"Containers", strings.TrimSpace(yesNo(n.Runtimes.Containers) + " " + n.Runtimes.ContainersVer + n.Runtimes.ContainersReason)},
		{"CPU", s.Allocated.CPU.String() + " of " + n.Capacity.CPU.String()}, {"Memory", human(int64(s.Allocated.Memory)) + " of " + human(int64(n.Capacity.Memory))},
		{"Storage", human(int64(s.Allocated.Storage)) + " of " + human(int64(n.Capacity.Storage))}, {"Disk", s.DiskFull}, {"Chunks", chunksOf(n)}, {"Upkeep", upkeepOf(n)}, {"Replicas", fmt.Sprint(s.Replicas)},
		{"Connected", yesNo(s.Connected)}, {"Gossip", s.Gossip}, {"Reliability", fmt.Sprintf("%.2f", s.Reliability)}, {"Joined", e.age(n.JoinedAt)},
	})
	return orElse(err, func() error { return e.lastEvents(ctx, c, "node/"+n.Name) })
}

// nodeMark makes a command that changes a node in one step.
func nodeMark(e *Env, verb, short, done string, do func(*client.Client, context.Context, string) (api.Node, error)) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NODE", Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeNodes(),
		Example: "  cloudless node " + verb + " edge-1",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			return e.onNode(ctx, c, args[0], false, func(id string) error {
				n, err := do(c, ctx, id)
				return orElse(err, func() error { return e.nodeOutcome(n, id, done) })
			})
		}),
	}
}

func (e *Env) nodeOutcome(n api.Node, id, what string) error {
	if done, err := e.machine(n); done {
		return err
	}
	if n.Name != "" {
		id = n.Name
	}
	return e.did(id, "node %s %s", id, what)
}

// did tells what was done: a sentence for people, the name alone with -o name. A program that wants an
// object finds none: the API answers with none.
func (e *Env) did(name, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	switch {
	case e.shows("name"):
		text = name
	case e.shows("json", "yaml"):
		e.say("%s", text)
		return nil
	case e.flags.quiet:
		return nil
	}
	_, err := fmt.Fprintln(e.Out, text)
	return err
}

func nodeRemove(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "remove NODE", Short: "Forget a node, and refuse its certificate from then on", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeNodes(),
		Example: "  cloudless node remove edge-1",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			return e.onNode(ctx, c, args[0], true, func(id string) error {
				if err := e.confirm("remove node " + id + " for good"); err != nil {
					return err
				}
				err := c.RemoveNode(ctx, id)
				return orElse(err, func() error { return e.did(id, "node %s removed", id) })
			})
		}),
	}
}

func nodeRevoke(e *Env) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "revoke NODE", Short: "Shut a node out that is not trusted any more: its connections are cut everywhere, at once", Args: cobra.ExactArgs(1),
		ValidArgsFunction: e.completeNodes(),
		Example:           "  cloudless node revoke edge-1 --reason stolen",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			return e.onNode(ctx, c, args[0], true, func(id string) error {
				if err := e.confirm("revoke node " + id + " for good"); err != nil {
					return err
				}
				err := c.RevokeNode(ctx, id, reason)
				return orElse(err, func() error { return e.did(id, "node %s revoked", id) })
			})
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log and the events")
	return cmd
}
