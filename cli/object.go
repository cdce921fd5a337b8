package cli

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/internal/run"
)

// objectsInFlight is how many objects are moved or deleted at the same time.
const objectsInFlight = 4

func objectCommand(e *Env) *cobra.Command {
	cmd := newGroup("object", "Put, get and see objects of a bucket",
		"  cloudless storage object put photos sea.jpg sea.jpg\n  cloudless storage object get photos sea.jpg -\n  cloudless storage object list photos",
		objectList(e), objectPut(e), objectGet(e), objectStat(e), objectCopy(e), objectDelete(e))
	cmd.Aliases = []string{"objects"}
	return cmd
}

func (e *Env) objectView() view[api.Object] {
	return view[api.Object]{
		name: func(o api.Object) string { return o.Key },
		columns: []column[api.Object]{
			{"KEY", false, func(o api.Object) string { return o.Key }},
			{"SIZE", false, func(o api.Object) string { return human(o.Size) }},
			{"MODIFIED", false, func(o api.Object) string { return e.age(o.Modified) }},
			{"TYPE", false, func(o api.Object) string { return o.ContentType }},
			{"ETAG", true, func(o api.Object) string { return o.ETag }},
			{"SHA256", true, func(o api.Object) string { return o.SHA256 }},
			{"METADATA", true, func(o api.Object) string { return labels(o.Metadata) }},
		},
	}
}

func objectList(e *Env) *cobra.Command {
	var f listFlags
	q := meta.List{}
	cmd := &cobra.Command{
		Use: "list BUCKET", Aliases: []string{"ls"}, Short: "List objects, in the order of their keys", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeBuckets(),
		Example: "  cloudless storage object list photos --prefix 2026/\n  cloudless storage object list photos --delimiter /",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			page, err := f.query(e, false)
			if err != nil {
				return err
			}
			q.Bucket = args[0]
			return listing[api.Object]{&f, e.objectView(), objectPages(q)}.run(ctx, e, c, page)
		}),
	}
	f.addPages(cmd)
	cmd.Flags().StringVar(&q.Prefix, "prefix", "", "only keys that begin with this")
	cmd.Flags().StringVar(&q.Delimiter, "delimiter", "", "show as one what has the same key up to this, such as /")
	return cmd
}

// objectPages fetches pages of a bucket. What keys have in common up to the delimiter is an item that has
// nothing but a key.
func objectPages(q meta.List) func(context.Context, *client.Client, api.ListQuery) (api.List[api.Object], error) {
	return func(ctx context.Context, c *client.Client, p api.ListQuery) (api.List[api.Object], error) {
		q.After, q.Limit = p.Cursor, p.Limit
		page, err := c.Objects(ctx, q)
		out := api.List[api.Object]{Index: page.Index, Cursor: page.Cursor}
		for _, o := range page.Items {
			for len(page.Prefixes) > 0 && page.Prefixes[0] < o.Key {
				out.Items = append(out.Items, api.Object{Bucket: q.Bucket, Key: page.Prefixes[0]})
				page.Prefixes = page.Prefixes[1:]
			}
			out.Items = append(out.Items, *o)
		}
		for _, common := range page.Prefixes {
			out.Items = append(out.Items, api.Object{Bucket: q.Bucket, Key: common})
		}
		return out, err
	}
}

func objectStat(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "stat BUCKET KEY", Short: "Show everything about an object but its bytes", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completeBuckets(),
		Example: "  cloudless storage object stat photos sea.jpg",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			o, err := c.Object(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			if done, err := e.machine(o); done {
				return err
			}
			if e.names() {
				return printItems(e, []api.Object{o}, e.objectView())
			}
			return e.fields([][2]string{
				{"Key", o.Key}, {"Bucket", o.Bucket}, {"Size", fmt.Sprintf("%d (%s)", o.Size, human(o.Size))}, {"Type", o.ContentType}, {"Modified", e.age(o.Modified)},
				{"ETag", o.ETag}, {"SHA-256", o.SHA256}, {"Metadata", labels(o.Metadata)}, {"Tags", labels(o.Tags)},
				{"Copies", unlessZero(o.Replicas, fmt.Sprint(o.Replicas))}, {"Class", o.Class},
			})
		}),
	}
}

func objectCopy(e *Env) *cobra.Command {
	var unlessThere bool
	cmd := &cobra.Command{
		Use: "copy BUCKET KEY TO_BUCKET TO_KEY", Aliases: []string{"cp"}, Short: "Make another object of the same bytes, which do not move", Args: cobra.ExactArgs(4), ValidArgsFunction: e.completeBuckets(),
		Example: "  cloudless storage object copy photos sea.jpg album cover.jpg",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			o, err := c.CopyObject(ctx, args[2], args[3], api.ObjectCopy{FromBucket: args[0], FromKey: args[1]}, unlessThere)
			return orElse(err, func() error { return e.objectOutcome(o, "copied") })
		}),
	}
	cmd.Flags().BoolVar(&unlessThere, "if-none-match", false, "only if there is no object of that key yet")
	return cmd
}

func (e *Env) objectOutcome(o api.Object, what string) error {
	if done, err := e.machine(o); done {
		return err
	}
	return e.did(o.Key, "object %s/%s %s, %s", o.Bucket, o.Key, what, human(o.Size))
}

func objectDelete(e *Env) *cobra.Command {
	var recursive bool
	var match string
	cmd := &cobra.Command{
		Use: "delete BUCKET KEY", Aliases: []string{"rm"}, Short: "Delete an object, or with --recursive all under a folder", Args: cobra.RangeArgs(1, 2), ValidArgsFunction: e.completeBuckets(),
		Example: "  cloudless storage object delete photos sea.jpg\n  cloudless storage object delete photos 2025 --recursive",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			if recursive {
				return e.deleteFolder(ctx, c, args)
			}
			if len(args) < 2 {
				return usageError("the key of an object is missing").WithHint("usage: cloudless storage object delete BUCKET KEY; --recursive without KEY is everything")
			}
			o, err := c.Object(ctx, args[0], args[1]) // to delete what is not there is no error of the API
			if err != nil {
				return err
			}
			if err := e.confirm(fmt.Sprintf("delete object %s of bucket %s (%s)", o.Key, o.Bucket, human(o.Size))); err != nil {
				return err
			}
			err = c.DeleteObject(ctx, args[0], args[1], match)
			return orElse(err, func() error { return e.did(args[1], "object %s/%s deleted", args[0], args[1]) })
		}),
	}
	cmd.Flags().BoolVar(&recursive, "recursive", false, "KEY is a folder: delete all under it")
	cmd.Flags().StringVar(&match, "if-match", "", "only if the object has this ETag, or * for any")
	return cmd
}

func (e *Env) deleteFolder(ctx context.Context, c *client.Client, args []string) error {
	prefix := folder(strings.Join(args[1:], ""))
	if err := e.confirm(fmt.Sprintf("delete everything under %q in bucket %s", prefix, args[0])); err != nil {
		return err
	}
	n, err := e.deleteAll(ctx, c, args[0], prefix)
	return orElse(err, func() error { return e.did(args[0], "%d objects deleted", n) })
}

// folder is the prefix of all keys in a folder; "" is the whole bucket.
func folder(name string) string {
	if name == "" || strings.HasSuffix(name, "/") {
		return name
	}
	return name + "/"
}

// deleteAll deletes every object under a prefix, and gives their number.
func (e *Env) deleteAll(ctx context.Context, c *client.Client, bucket, prefix string) (int64, error) {
	b, n := e.bar("deleting", -1), tally{}
	defer b.clear()
	err := eachObject(ctx, c, bucket, prefix, func(ctx context.Context, o *api.Object) error {
		if err := c.DeleteObject(ctx, bucket, o.Key, ""); err != nil {
			return err
		}
		n.add(o)
		b.add(o.Size)
		return nil
	})
	return n.objects.Load(), err
}

// eachObject calls do for every object under a prefix, a few at a time.
func eachObject(ctx context.Context, c *client.Client, bucket, prefix string, do func(context.Context, *api.Object) error) error {
	return run.Each(ctx, "objects", objectsInFlight, func(ctx context.Context, put func(*api.Object) error) error {
		for q := (meta.List{Bucket: bucket, Prefix: prefix}); ; {
			page, err := c.Objects(ctx, q)
			if err != nil {
				return err
			}
			for _, o := range page.Items {
				if err := put(o); err != nil {
					return err
				}
			}
			if q.After = page.Cursor; q.After == "" {
				return nil
			}
		}
	}, do)
}

// tally counts objects that several work on at the same time.
type tally struct {
	objects, bytes atomic.Int64
}

func (t *tally) add(o *api.Object) {
	t.bytes.Add(o.Size)
	t.objects.Add(1)
}
