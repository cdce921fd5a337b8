package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
	"github.com/cloudless/cloudless/api/manifest"
)

// ref reads NAME or NAMESPACE/NAME.
func (e *Env) ref(arg string) (api.Ref, error) {
	if ns, name, ok := strings.Cut(arg, "/"); ok {
		return checkRef(api.Ref{Namespace: ns, Name: name})
	}
	ns, err := e.namespace()
	if err != nil {
		return api.Ref{}, err
	}
	return checkRef(api.Ref{Namespace: ns, Name: arg})
}

func checkRef(r api.Ref) (api.Ref, error) {
	if !api.ValidName(r.Name) || !api.ValidName(r.Namespace) {
		return r, usageError("%q is not the name of a workload: write NAME or NAMESPACE/NAME", strings.TrimPrefix(r.String(), "/"))
	}
	return r, nil
}

// onWorkload calls do for a workload. When there is none of that name, a unique prefix will do; if
// exact is set, as it is for what destroys, it is only suggested.
func (e *Env) onWorkload(ctx context.Context, c *client.Client, arg string, exact bool, do func(api.Ref) error) error {
	ref, err := e.ref(arg)
	if err != nil {
		return err
	}
	err = do(ref)
	if !client.IsNotFound(err) {
		return err
	}
	name, found := resolve(err, ref.Name, exact, func() ([]string, error) { return workloadNames(ctx, c, ref.Namespace) })
	if name == "" {
		return found
	}
	return do(api.Ref{Namespace: ref.Namespace, Name: name})
}

// onNode does the same for a node, by name.
func (e *Env) onNode(ctx context.Context, c *client.Client, arg string, exact bool, do func(string) error) error {
	err := do(arg)
	if !client.IsNotFound(err) {
		return err
	}
	name, found := resolve(err, arg, exact, func() ([]string, error) { return nodeNames(ctx, c) })
	if name == "" {
		return found
	}
	return do(name)
}

// resolve finds the one name that begins with word; otherwise it gives the not-found error, with a
// hint at what was meant.
func resolve(missing error, word string, exact bool, list func() ([]string, error)) (string, error) {
	names, err := list()
	if err != nil || word == "" || slices.Contains(names, word) {
		return "", missing // or something else than the name is missing
	}
	var begin []string
	for _, n := range names {
		if strings.HasPrefix(n, word) && n != word {
			begin = append(begin, n)
		}
	}
	if len(begin) == 1 && !exact {
		return begin[0], nil
	}
	slices.Sort(begin)
	hinted := api.AsError(missing)
	switch near := manifest.Nearest(word, names); {
	case len(begin) > 0:
		return "", hinted.WithHint("did you mean %s?", strings.Join(begin[:min(len(begin), 5)], ", "))
	case near != "" && near != word:
		return "", hinted.WithHint("did you mean %s?", near)
	}
	return "", missing
}

func workloadNames(ctx context.Context, c *client.Client, namespace string) ([]string, error) {
	list, err := client.Pages(api.ListQuery{Namespace: namespace}, func(q api.ListQuery) (api.List[api.Workload], error) { return c.Workloads(ctx, q) })
	var names []string
	for _, w := range list.Items {
		names = append(names, w.Metadata.Name)
	}
	return names, err
}

func nodeNames(ctx context.Context, c *client.Client) ([]string, error) {
	list, err := client.Pages(api.ListQuery{}, func(q api.ListQuery) (api.List[api.Node], error) { return c.Nodes(ctx, q) })
	var names []string
	for _, n := range list.Items {
		names = append(names, n.Name, n.ID)
	}
	return names, err
}
