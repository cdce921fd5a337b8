package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func clusterCommand(e *Env) *cobra.Command {
	return newGroup("cluster", "Replace the keys of the cluster", "  cloudless cluster rotate-ca\n  cloudless cluster ca >ca.pem\n  cloudless cluster rotations",
		rotateCA(e), rotateGossip(e), rotations(e), clusterCA(e))
}

func rotateCA(e *Env) *cobra.Command {
	var overlap, deadline time.Duration
	cmd := &cobra.Command{
		Use: "rotate-ca", Short: "Replace the CA while everything runs", Args: cobra.NoArgs,
		Long: "Begin to replace the CA. Everybody trusts both CAs, then all certificates are renewed by the new one, then the old one is dropped.\n" +
			"Within --overlap each client must take the new CA up: 'cloudless cluster ca >ca.pem'. Join tokens made before its end are refused after it.\n" +
			"Nodes that are away hold a phase up until they come back or --deadline is over; then they must join anew.",
		Example: "  cloudless cluster rotate-ca --overlap 24h",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if err := e.confirm("replace the CA"); err != nil {
				return err
			}
			o := api.Duration(overlap)
			return e.beginRotation(ctx, c, api.RotationRequest{Kind: api.RotateCA, Overlap: &o, Deadline: api.Duration(deadline)})
		}),
	}
	cmd.Flags().DurationVar(&overlap, "overlap", api.DefaultCAOverlap, "how long the old CA is trusted at least")
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "how long each phase waits for who is away (default: 72h)")
	return cmd
}

func rotateGossip(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "rotate-gossip-key", Short: "Replace the key that encrypts gossip, while everything runs", Args: cobra.NoArgs,
		Example: "  cloudless cluster rotate-gossip-key",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			return e.beginRotation(ctx, c, api.RotationRequest{Kind: api.RotateGossip})
		}),
	}
}

func (e *Env) beginRotation(ctx context.Context, c *client.Client, r api.RotationRequest) error {
	row, err := c.Rotate(ctx, r)
	if err != nil {
		return err
	}
	if done, err := e.machine(row); done {
		return err
	}
	return e.did(string(row.Kind), "rotation of the %s key began; see 'cloudless cluster rotations'", row.Kind)
}

func rotations(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "rotations", Short: "Show how far the rotations of keys are", Args: cobra.NoArgs, Example: "  cloudless cluster rotations",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			list, err := c.Rotations(ctx)
			return orElse(err, func() error {
				return printList(e, list, view[api.Rotation]{
					name: func(r api.Rotation) string { return string(r.Kind) },
					columns: []column[api.Rotation]{
						{"KEY", false, func(r api.Rotation) string { return string(r.Kind) }},
						{"PHASE", false, func(r api.Rotation) string { return string(r.Phase) }},
						{"FOR", false, func(r api.Rotation) string { return e.age(r.Since) }},
						{"NEW", false, func(r api.Rotation) string { return r.New[:min(len(r.New), 12)] }},
						{"OLD", false, func(r api.Rotation) string { return r.Old[:min(len(r.Old), 12)] }},
						{"OVERLAP", true, func(r api.Rotation) string { return r.Overlap.D().String() }},
					},
				})
			})
		}),
	}
}

// clusterCA prints the CA certificates, over a connection that the present CA vouches for.
func clusterCA(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "ca", Short: "Print the CA certificates to trust; two while the CA is rotated", Args: cobra.NoArgs,
		Example: "  cloudless cluster ca >ca.pem",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			pem, err := c.Page(ctx, "/ca.pem")
			return orElse(err, func() error { _, err := e.Out.Write(pem); return err })
		}),
	}
}
