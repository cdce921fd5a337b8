package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// topInterval is how often 'top --watch' looks; nodes measure every five seconds.
const topInterval = 2 * time.Second

func topCommand(e *Env) *cobra.Command {
	cmd := newGroup("top", "Show what nodes and workloads use", "  cloudless top\n  cloudless top workload -A --watch\n  cloudless top workload --sort-by cpu",
		topList(e, "node", false, "what nodes use, of what they have", topNodes, nodeLoadView()),
		topList(e, "workload", true, "what workloads use, as their nodes measured last", topWorkloads, workloadLoadView()))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return group(cmd, args)
		}
		return e.with(e.topAll)(cmd, args)
	}
	return cmd
}

// topAll is 'top' alone: the nodes, then the workloads of all namespaces.
func (e *Env) topAll(ctx context.Context, c *client.Client, _ []string) error {
	nodes, err := topNodes(ctx, c, api.ListQuery{})
	if err != nil {
		return err
	}
	workloads, err := topWorkloads(ctx, c, api.ListQuery{})
	if err != nil {
		return err
	}
	if done, err := e.machine(map[string]any{"nodes": nodes, "workloads": workloads}); done {
		return err
	}
	if err := printItems(e, nodes, nodeLoadView()); err != nil {
		return err
	}
	fmt.Fprintln(e.Out)
	return printItems(e, workloads, workloadLoadView())
}

// nodeLoad is one row of 'top node'.
type nodeLoad struct {
	Name      string       `json:"name"`
	State     string       `json:"state"`
	CPU       api.MilliCPU `json:"cpu"`
	CPUs      api.MilliCPU `json:"cpuCapacity"`
	Memory    api.Bytes    `json:"memory"`
	MemoryCap api.Bytes    `json:"memoryCapacity"`
	Storage   api.Bytes    `json:"storage"`
	Load1     float64      `json:"load1"`
	Replicas  int          `json:"replicas"`
}

// workloadLoad is one row of 'top workload'.
type workloadLoad struct {
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	CPU       api.MilliCPU `json:"cpu"`
	Memory    api.Bytes    `json:"memory"`
	Replicas  int          `json:"replicas"` // that were measured
	Nodes     []string     `json:"nodes"`
}

func topNodes(ctx context.Context, c *client.Client, q api.ListQuery) (out []nodeLoad, err error) {
	list, err := client.Pages(q, func(q api.ListQuery) (api.List[api.Node], error) { return c.Nodes(ctx, q) })
	for _, n := range list.Items {
		u := live(n).Usage
		out = append(out, nodeLoad{n.Name, string(n.State), u.CPU, n.Capacity.CPU, u.Memory, n.Capacity.Memory, u.Storage, u.Load1, live(n).Replicas})
	}
	return out, err
}

func topWorkloads(ctx context.Context, c *client.Client, q api.ListQuery) ([]workloadLoad, error) {
	list, err := client.Pages(q, func(q api.ListQuery) (api.List[api.ReplicaUsage], error) { return c.Usage(ctx, q) })
	return sumLoads(list.Items), err
}

// sumLoads adds up the replicas of each workload, in order of the workloads' names.
func sumLoads(replicas []api.ReplicaUsage) []workloadLoad {
	byRef := map[api.Ref]*workloadLoad{}
	for _, u := range replicas {
		ref := api.Ref{Namespace: u.Namespace, Name: u.Workload}
		w, ok := byRef[ref]
		if !ok {
			w = &workloadLoad{Namespace: u.Namespace, Name: u.Workload}
			byRef[ref] = w
		}
		w.CPU, w.Memory, w.Replicas = w.CPU+u.CPU, w.Memory+u.Memory, w.Replicas+1
		if !slices.Contains(w.Nodes, u.Node) {
			w.Nodes = append(w.Nodes, u.Node)
		}
	}
	out := make([]workloadLoad, 0, len(byRef))
	for _, w := range byRef {
		slices.Sort(w.Nodes)
		out = append(out, *w)
	}
	slices.SortFunc(out, func(a, b workloadLoad) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return out
}

func nodeLoadView() view[nodeLoad] {
	return view[nodeLoad]{
		name: func(n nodeLoad) string { return n.Name },
		columns: []column[nodeLoad]{
			{"NAME", false, func(n nodeLoad) string { return n.Name }},
			{"STATE", false, func(n nodeLoad) string { return n.State }},
			{"CPU", false, func(n nodeLoad) string { return cores(n.CPU) }},
			{"CPU%", false, func(n nodeLoad) string { return percent(int64(n.CPU), int64(n.CPUs)) }},
			{"MEMORY", false, func(n nodeLoad) string { return human(int64(n.Memory)) }},
			{"MEMORY%", false, func(n nodeLoad) string { return percent(int64(n.Memory), int64(n.MemoryCap)) }},
			{"REPLICAS", false, func(n nodeLoad) string { return fmt.Sprint(n.Replicas) }},
			{"LOAD", true, func(n nodeLoad) string { return fmt.Sprintf("%.2f", n.Load1) }},
			{"STORAGE", true, func(n nodeLoad) string { return human(int64(n.Storage)) }},
		},
	}
}

func workloadLoadView() view[workloadLoad] {
	return view[workloadLoad]{
		name: func(w workloadLoad) string { return w.Namespace + "/" + w.Name },
		columns: []column[workloadLoad]{
			{"NAMESPACE", false, func(w workloadLoad) string { return w.Namespace }},
			{"NAME", false, func(w workloadLoad) string { return w.Name }},
			{"CPU", false, func(w workloadLoad) string { return cores(w.CPU) }},
			{"MEMORY", false, func(w workloadLoad) string { return human(int64(w.Memory)) }},
			{"REPLICAS", false, func(w workloadLoad) string { return fmt.Sprint(w.Replicas) }},
			{"NODES", true, func(w workloadLoad) string { return strings.Join(w.Nodes, ",") }},
		},
	}
}

// cores writes thousandths of a core, so that columns of them compare at a glance.
func cores(m api.MilliCPU) string { return fmt.Sprintf("%dm", m) }

func percent(part, whole int64) string {
	if whole <= 0 {
		return ""
	}
	return fmt.Sprintf("%d%%", 100*part/whole)
}

// topList makes one kind of top: sorted by what is asked for, the heaviest first.
func topList[T any](e *Env, use string, namespaced bool, short string, fetch func(context.Context, *client.Client, api.ListQuery) ([]T, error), v view[T]) *cobra.Command {
	var watch, all bool
	var by string
	cmd := &cobra.Command{
		Use: use, Aliases: []string{use + "s"}, Short: "Show " + short, Args: cobra.NoArgs, Example: "  cloudless top " + use + " --sort-by memory --watch",
	}
	cmd.RunE = e.with(func(ctx context.Context, c *client.Client, _ []string) (err error) {
		var q api.ListQuery
		if namespaced && !all {
			if q.Namespace, err = e.namespace(); err != nil {
				return err
			}
		}
		get := func() ([]T, error) { return fetch(ctx, c, q) }
		items, err := get()
		for ; err == nil; items, err = again(ctx, e, get) {
			if err := printTop(e, items, v, by, watch); err != nil || !watch {
				return err
			}
			if err := pause(ctx, topInterval); err != nil {
				return err
			}
		}
		return err
	})
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "look again and again")
	cmd.Flags().StringVar(&by, "sort-by", "", "order by a column, the highest number first")
	if namespaced {
		cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "of all namespaces")
	}
	return cmd
}

func printTop[T any](e *Env, items []T, v view[T], by string, watch bool) error {
	if by != "" {
		value, err := v.column(by)
		if err != nil {
			return err
		}
		slices.SortStableFunc(items, func(a, b T) int { return heavier(value(a), value(b)) })
	}
	switch {
	case watch && e.shows("json", "yaml"):
		return json.NewEncoder(e.Out).Encode(api.List[T]{Items: items}) // a line each time
	case watch && isTerminal(e.Out):
		fmt.Fprint(e.Out, "\x1b[H\x1b[2J")
	}
	return printList(e, api.List[T]{Items: items}, v)
}

// heavier puts the greater number first, and texts in their order.
func heavier(a, b string) int {
	x, okA := quantity(a)
	y, okB := quantity(b)
	if okA && okB {
		return cmp.Compare(y, x)
	}
	return natural(a, b)
}
