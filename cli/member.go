package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func memberCommand(e *Env) *cobra.Command {
	return newGroup("member", "See and remove coordinators", "  cloudless member list\n  cloudless member remove s-abcdefghij", memberList(e), memberRemove(e))
}

func memberView() view[api.Member] {
	return view[api.Member]{
		name: func(m api.Member) string { return m.ID },
		columns: []column[api.Member]{
			{"NAME", false, func(m api.Member) string { return m.Name }},
			{"ID", false, func(m api.Member) string { return m.ID }},
			{"ROLE", false, memberRole},
			{"HEALTHY", false, func(m api.Member) string { return yesNo(m.Healthy) }},
			{"HTTP", false, func(m api.Member) string { return m.HTTPAddr }},
			{"NODE", true, func(m api.Member) string { return m.NodeAddr }},
			{"VERSION", true, func(m api.Member) string { return m.Version }},
		},
	}
}

func memberRole(m api.Member) string {
	switch {
	case m.Leader:
		return "leader"
	case m.Voter:
		return "voter"
	}
	return "learner"
}

func memberList(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List coordinators", Args: cobra.NoArgs, Example: "  cloudless member list -o wide",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			list, err := c.Members(ctx)
			return orElse(err, func() error { return printList(e, list, memberView()) })
		}),
	}
}

func memberRemove(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "remove ID", Short: "Take a coordinator out of the control plane", Args: cobra.ExactArgs(1), Example: "  cloudless member remove s-abcdefghij",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := e.confirm("remove coordinator " + args[0] + " for good"); err != nil {
				return err
			}
			err := c.RemoveMember(ctx, args[0])
			return orElse(err, func() error { return e.did(args[0], "coordinator %s removed", args[0]) })
		}),
	}
}
