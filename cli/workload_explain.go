package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func explainCommand(e *Env, use string) *cobra.Command {
	return &cobra.Command{
		Use: use + " NAME", Short: "Say why replicas are where they are, and not elsewhere", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeWorkloads(),
		Example: "  cloudless workload explain hi\n  cloudless workload explain hi -o json",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			return e.onWorkload(ctx, c, args[0], false, func(ref api.Ref) error {
				x, err := c.Explain(ctx, ref)
				if err != nil {
					return err
				}
				if done, err := e.machine(x); done {
					return err
				}
				return e.printExplanation(x)
			})
		}),
	}
}

// bestFirst orders nodes by their score; those that were refused come last.
func bestFirst(nodes []api.NodeExplanation) []api.NodeExplanation {
	return slices.SortedStableFunc(slices.Values(nodes), func(a, b api.NodeExplanation) int {
		if fits := (a.Filter == ""); fits != (b.Filter == "") {
			return cmp.Compare(len(a.Filter), len(b.Filter))
		}
		return cmp.Compare(b.Score.Total, a.Score.Total)
	})
}

// held says how much a node has of what a replica would have to fetch.
func held(n api.NodeExplanation) string {
	if n.Needed == 0 {
		return ""
	}
	return fmt.Sprintf("; holds %s of %s", human(int64(n.Held)), human(int64(n.Needed)))
}

// printExplanation shows every node with its score or the filter that refused it, then the replicas.
func (e *Env) printExplanation(x api.Explanation) error {
	var rows [][]string
	for _, n := range bestFirst(x.Nodes) {
		verdict, score := n.Reason, fmt.Sprintf("%.1f", n.Score.Total)
		if n.Filter != "" {
			verdict, score = n.Filter+": "+n.Reason, ""
		} else if verdict == "" {
			verdict = parts(n.Score.Parts) + held(n)
		}
		rows = append(rows, []string{dash(n.Node), dash(string(n.Variant)), dash(score), dash(verdict)})
	}
	if err := e.table([]string{"NODE", "VARIANT", "SCORE", "WHY"}, rows); err != nil {
		return err
	}
	planned := map[string]int{}
	for _, r := range x.Replicas {
		if r.ID == "" {
			planned[r.Node]++
			continue
		}
		fmt.Fprintf(e.Out, "replica %s on %s: best of %d nodes%s\n", r.ID, r.Node, r.Decision.Nodes, refused(r.Decision.Refused))
	}
	for _, node := range slices.Sorted(maps.Keys(planned)) {
		fmt.Fprintf(e.Out, "new on %s: %s\n", node, count(planned[node], "replica"))
	}
	if x.Unplaced > 0 {
		fmt.Fprintf(e.Out, "%s without a node: %s\n", count(x.Unplaced, "replica"), x.Message)
	}
	for _, d := range x.Different {
		fmt.Fprintln(e.Out, "changed since: "+d)
	}
	return nil
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func parts(m map[string]float64) string {
	var out []string
	for k, v := range m {
		out = append(out, fmt.Sprintf("%s %.1f", k, v))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func refused(m map[string]int) string {
	var out []string
	for k, n := range m {
		out = append(out, fmt.Sprintf("%d refused by %s", n, k))
	}
	if len(out) == 0 {
		return ""
	}
	slices.Sort(out)
	return ", " + strings.Join(out, ", ")
}

func workloadDescribe(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "describe NAME", Short: "Show everything about a workload, and why", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeWorkloads(),
		Example: "  cloudless workload describe hi",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			return e.onWorkload(ctx, c, args[0], false, func(ref api.Ref) error { return e.describeWorkload(ctx, c, ref) })
		}),
	}
}

func (e *Env) describeWorkload(ctx context.Context, c *client.Client, ref api.Ref) error {
	w, err := c.Workload(ctx, ref, 0, 0)
	if err != nil {
		return err
	}
	if done, err := e.machine(w); done {
		return err
	}
	st := status(w)
	err = e.fields([][2]string{
		{"Name", w.Metadata.Name}, {"Namespace", w.Metadata.Namespace}, {"Labels", labels(w.Metadata.Labels)},
		{"Version", fmt.Sprint(w.Metadata.Version)}, {"Created", e.age(created(w))}, {"Runs", runs(w.Spec)},
		{"Phase", string(st.Phase)}, {"Ready", fmt.Sprintf("%d of %d", st.Ready, st.Desired)}, {"Message", st.Message},
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(e.Out, "\nReplicas")
	if err := printItems(e, st.Replicas, e.replicaView()); err != nil {
		return err
	}
	fmt.Fprintln(e.Out, "\nWhy")
	if x, err := c.Explain(ctx, ref); err == nil {
		if err := e.printExplanation(x); err != nil {
			return err
		}
	}
	return e.lastEvents(ctx, c, "workload/"+ref.String(), st.Replicas...)
}

// fields prints names and values, those that have one.
func (e *Env) fields(pairs [][2]string) error {
	var out strings.Builder
	for _, p := range pairs {
		if p[1] != "" {
			fmt.Fprintf(&out, "%-12s %s\n", p[0]+":", strings.Map(printable, p[1]))
		}
	}
	_, err := io.WriteString(e.Out, out.String())
	return err
}

func (e *Env) replicaView() view[api.ReplicaStatus] {
	return view[api.ReplicaStatus]{
		name: func(r api.ReplicaStatus) string { return r.ID },
		columns: []column[api.ReplicaStatus]{
			{"ID", false, func(r api.ReplicaStatus) string { return r.ID }},
			{"NODE", false, func(r api.ReplicaStatus) string { return r.Node }},
			{"VARIANT", false, func(r api.ReplicaStatus) string { return string(r.Variant) }},
			{"STATE", false, func(r api.ReplicaStatus) string { return string(r.State) }},
			{"READY", false, func(r api.ReplicaStatus) string { return yesNo(r.Ready) }},
			{"RESTARTS", false, func(r api.ReplicaStatus) string { return fmt.Sprint(r.Restarts) }},
			{"SINCE", false, func(r api.ReplicaStatus) string { return e.age(r.Since) }},
			{"REASON", false, e.whyState},
		},
	}
}

// whyState is a replica's reason, with the time of its next start when it waits for one.
func (e *Env) whyState(r api.ReplicaStatus) string {
	if r.NextTry.IsZero() {
		return r.Reason
	}
	return strings.TrimSpace(fmt.Sprintf("%s; next try in %s", r.Reason, short(r.NextTry.Sub(e.Now()))))
}

// shownEvents is how many events a description ends with.
const shownEvents = 10

// lastEvents ends a description with the last events of a resource and of the replicas that belong to it.
func (e *Env) lastEvents(ctx context.Context, c *client.Client, resource string, replicas ...api.ReplicaStatus) error {
	list, err := c.Events(ctx, api.EventQuery{Resource: resource, Limit: shownEvents})
	if err != nil {
		return nil // an extra: the description is whole without it
	}
	items := list.Items
	if len(replicas) > 0 {
		all, err := c.Events(ctx, api.EventQuery{Resource: "replica/", Limit: api.MaxListLimit}) // in one call, however many replicas
		if err != nil {
			return nil
		}
		items = withReplicas(items, all.Items, replicas)
	}
	if len(items) == 0 {
		return nil
	}
	fmt.Fprintln(e.Out, "\nEvents")
	return printItems(e, items[max(0, len(items)-shownEvents):], e.eventView())
}

// withReplicas adds to events those of all that are about the replicas, in the order of time.
func withReplicas(events, all []api.Event, replicas []api.ReplicaStatus) []api.Event {
	mine := make(map[string]bool, len(replicas))
	for _, r := range replicas {
		mine["replica/"+r.ID] = true
	}
	for _, ev := range all {
		if mine[ev.Resource] {
			events = append(events, ev)
		}
	}
	slices.SortStableFunc(events, func(a, b api.Event) int { return a.Time.Compare(b.Time) })
	return events
}
