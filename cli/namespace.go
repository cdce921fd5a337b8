package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func namespaceCommand(e *Env) *cobra.Command {
	cmd := newGroup("namespace", "See namespaces and say what they demand", "  cloudless namespace list\n  cloudless namespace set prod --require-signature minisign.pub",
		namespaceList(e), namespaceGet(e), namespaceSet(e), namespaceUnset(e))
	cmd.Aliases = []string{"namespaces", "ns"}
	return cmd
}

func (e *Env) namespaceView() view[api.Namespace] {
	return view[api.Namespace]{
		name: func(n api.Namespace) string { return n.Name },
		columns: []column[api.Namespace]{
			{"NAME", false, func(n api.Namespace) string { return n.Name }},
			{"WORKLOADS", false, func(n api.Namespace) string { return fmt.Sprint(n.Workloads) }},
			{"SIGNED BY", false, func(n api.Namespace) string { return strings.Join(signersOf(n), ",") }},
		},
	}
}

// signersOf names the keys that a namespace trusts.
func signersOf(n api.Namespace) []string {
	if n.Policy == nil {
		return nil
	}
	var names []string
	for _, text := range n.Policy.RequireSignature {
		name := "unreadable"
		if key, err := api.ParsePublicKey(text); err == nil {
			name = api.KeyName(key.ID)
		}
		names = append(names, name)
	}
	return names
}

func namespaceList(e *Env) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the namespaces that have workloads or a policy", Args: cobra.NoArgs,
		Example: "  cloudless namespace list",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			q, err := f.query(e, false)
			if err != nil {
				return err
			}
			fetch := func(ctx context.Context, c *client.Client, q api.ListQuery) (api.List[api.Namespace], error) {
				return c.Namespaces(ctx, q)
			}
			return listing[api.Namespace]{&f, e.namespaceView(), fetch}.run(ctx, e, c, q)
		}),
	}
	f.add(cmd)
	return cmd
}

func namespaceGet(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Show a namespace", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeNamespaces(),
		Example: "  cloudless namespace get prod -o yaml",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			n, err := c.Namespace(ctx, args[0])
			return orElse(err, func() error { return printOne(e, n, e.namespaceView()) })
		}),
	}
}

func (e *Env) completeNamespaces() cobra.CompletionFunc { return e.complete(namespaceNames) }

func namespaceNames(ctx context.Context, c *client.Client) (names []string, err error) {
	list, err := c.Namespaces(ctx, api.ListQuery{})
	for _, n := range list.Items {
		names = append(names, n.Name)
	}
	return names, err
}

func namespaceSet(e *Env) *cobra.Command {
	var keys []string
	cmd := &cobra.Command{
		Use: "set NAME --require-signature KEY|FILE.pub…", Short: "Say what a namespace demands of what starts in it", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeNamespaces(),
		Long: "Say what a namespace demands: that modules are signed, by minisign, with one of the keys given. The keys take the place of those set before.\n" +
			"It is checked on the node at each start: what runs already goes on until it starts again. Container images cannot be signed, and are refused.",
		Example: "  cloudless namespace set prod --require-signature minisign.pub\n  cloudless namespace set prod --require-signature RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			p := api.NamespacePolicy{Namespace: args[0]}
			for _, word := range keys {
				key, err := publicKey(word)
				if err != nil {
					return err
				}
				p.RequireSignature = append(p.RequireSignature, key)
			}
			if errs := p.Validate(); len(errs) > 0 {
				return usageError("%v", errs)
			}
			p, err := c.PutPolicy(ctx, p)
			if err != nil {
				return err
			}
			if done, err := e.machine(p); done {
				return err
			}
			return e.did(p.Namespace, "namespace %s runs modules only that one of %d keys has signed", p.Namespace, len(p.RequireSignature))
		}),
	}
	cmd.Flags().StringArrayVar(&keys, "require-signature", nil, "public key of minisign, or a file that holds one; may be repeated")
	return cmd
}

func namespaceUnset(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "unset NAME", Short: "Let a namespace demand nothing any more", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeNamespaces(),
		Example: "  cloudless namespace unset prod",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := e.confirm("let namespace " + args[0] + " run modules that nobody signed"); err != nil {
				return err
			}
			if err := c.DeletePolicy(ctx, args[0]); err != nil {
				return err
			}
			return e.did(args[0], "namespace %s demands no signature any more", args[0])
		}),
	}
}
