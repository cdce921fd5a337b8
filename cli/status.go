package cli

import (
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

func statusCommand(e *Env) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show the cluster on one screen", Args: cobra.NoArgs,
		Example: "  cloudless status\n  cloudless status -o json",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			for index := uint64(0); ; {
				ask := func() (api.ClusterStatus, error) { return c.Status(ctx, index, api.DefaultWait) }
				st, err := ask()
				if watch && index > 0 && api.CodeOf(err) == api.CodeUnavailable {
					st, err = again(ctx, e, ask)
				}
				if err != nil {
					return err
				}
				if watch && isTerminal(e.Out) {
					fmt.Fprint(e.Out, "\x1b[H\x1b[2J")
				}
				switch {
				case watch && e.shows("json"):
					err = json.NewEncoder(e.Out).Encode(st) // a line each
				default:
					err = e.printStatus(ctx, c, st)
				}
				if err != nil || !watch {
					return err
				}
				if st.Index <= index {
					if err := pause(ctx, time.Second); err != nil {
						return err
					}
				}
				index = st.Index
			}
		}),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show changes as they come")
	return cmd
}

func (e *Env) printStatus(ctx context.Context, c *client.Client, st api.ClusterStatus) error {
	if done, err := e.machine(st); done {
		return err
	}
	if e.shows("name") || e.flags.quiet {
		_, err := fmt.Fprintln(e.Out, st.ClusterID)
		return err
	}
	leader := st.Leader
	if leader == "" {
		leader = e.paint(red, "none")
	}
	err := e.fields([][2]string{
		{"Cluster", st.ClusterID}, {"Nodes", counts(st.Nodes)}, {"Workloads", counts(st.Workloads)},
		{"Replicas", fmt.Sprintf("%d of %d ready", st.Replicas["ready"], st.Replicas["desired"])},
		{"Storage", storageLine(st.Storage)},
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Out, "%-12s %s\n\n", "Leader:", leader)
	if err := printItems(e, st.Coordinators, memberView()); err != nil {
		return err
	}
	for _, w := range slices.Concat(st.Warnings, st.Storage.Reasons) {
		fmt.Fprintln(e.Out, e.paint(yellow, "warning: "+w))
	}
	return e.lastEvents(ctx, c, "")
}

func storageLine(s api.StorageStatus) string {
	line := fmt.Sprintf("%s, %s of %s used on %d nodes, %d artifacts (%s)", s.Health, human(s.Used), human(s.Capacity), s.Nodes, s.Artifacts, human(s.Bytes))
	if s.Missing > 0 {
		line += fmt.Sprintf(", %d copies missing", s.Missing)
	}
	return line
}

// counts writes the total first, then the states that occur.
func counts(m map[string]int) string {
	var out []string
	for k, n := range m {
		if k != "total" && n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, k))
		}
	}
	if len(out) == 0 {
		return fmt.Sprint(m["total"])
	}
	slices.Sort(out)
	return fmt.Sprintf("%d (%s)", m["total"], strings.Join(out, ", "))
}
