package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func eventCommand(e *Env) *cobra.Command {
	return newGroup("event", "See what happened in the cluster", "  cloudless event list --follow", eventList(e))
}

func (e *Env) eventView() view[api.Event] {
	return view[api.Event]{
		name: func(v api.Event) string { return v.ID },
		columns: []column[api.Event]{
			{"TIME", false, func(v api.Event) string { return e.age(v.Time) }},
			{"SEVERITY", false, func(v api.Event) string { return string(v.Severity) }},
			{"TYPE", false, func(v api.Event) string { return v.Type }},
			{"RESOURCE", false, func(v api.Event) string { return v.Resource }},
			{"MESSAGE", false, func(v api.Event) string { return v.Message }},
			{"NODE", true, func(v api.Event) string { return v.Node }},
			{"ID", true, func(v api.Event) string { return v.ID }},
			{"REQUEST", true, func(v api.Event) string { return v.RequestID }},
		},
	}
}

func eventList(e *Env) *cobra.Command {
	var q api.EventQuery
	var severity, since, until string
	var follow bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List events, oldest first", Args: cobra.NoArgs,
		Example: "  cloudless event list --since 10m --severity warning\n  cloudless event list --follow --resource workload/default/hi -o json",
	}
	cmd.RunE = e.with(func(ctx context.Context, c *client.Client, _ []string) (err error) {
		q.Severity = api.Severity(severity)
		if q.Since, err = e.moment(since); err != nil {
			return err
		}
		if q.Until, err = e.moment(until); err != nil {
			return err
		}
		if follow {
			return e.followEvents(ctx, c, q)
		}
		list, err := c.Events(ctx, q)
		return orElse(err, func() error { return printList(e, list, e.eventView()) })
	})
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on as events happen")
	f.StringVar(&q.Type, "type", "", "of this type, such as replica.failed, or all of a kind: replica")
	f.StringVar(&severity, "severity", "", "at least this severe: info, warning or error")
	f.StringVar(&q.Resource, "resource", "", "about this, such as workload/default/hi or node/NAME")
	f.StringVar(&since, "since", "", "since a time (RFC 3339) or for a duration (10m)")
	f.StringVar(&until, "until", "", "before a time (RFC 3339) or a duration ago")
	f.IntVar(&q.Limit, "limit", 0, "at most so many, the newest")
	f.StringVar(&q.Before, "continue", "", "go on from the cursor of an earlier list, with older ones")
	return cmd
}

// followEvents prints each event at once: a row, or a line of JSON.
func (e *Env) followEvents(ctx context.Context, c *client.Client, q api.EventQuery) error {
	v := e.eventView()
	quiet := e.flags.noHeaders || e.flags.quiet
	err := c.FollowEvents(ctx, q, func(ev api.Event) error {
		switch {
		case e.shows("json"):
			return json.NewEncoder(e.Out).Encode(ev)
		case e.shows("yaml"):
			fmt.Fprintln(e.Out, "---")
			_, err := e.machine(ev)
			return err
		case e.shows("name") || e.flags.quiet:
			_, err := fmt.Fprintln(e.Out, ev.ID)
			return err
		}
		if !quiet {
			fmt.Fprintf(e.Out, eventRow+"\n", "TIME", "SEVERITY", "TYPE", "RESOURCE", "MESSAGE")
			quiet = true
		}
		row := v.rows(e, []api.Event{ev})[0]
		line := fmt.Sprintf(eventRow, ev.Time.UTC().Format("2006-01-02T15:04:05Z"), row[1], row[2], row[3], row[4])
		_, err := fmt.Fprintln(e.Out, strings.Map(printable, line))
		return err
	})
	if ctx.Err() != nil {
		return nil // an interrupt is how following ends
	}
	return err
}

// eventRow has fixed widths, for rows that come one at a time cannot be aligned together.
const eventRow = "%-20s  %-8s  %-20s  %-30s  %s"
