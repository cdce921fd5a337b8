package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func bucketCommand(e *Env) *cobra.Command {
	cmd := newGroup("bucket", "See and manage buckets", "  cloudless storage bucket list\n  cloudless storage bucket create photos --replicas 3",
		bucketList(e), bucketGet(e), bucketCreate(e), bucketSet(e), bucketDelete(e))
	cmd.Aliases = []string{"buckets"}
	return cmd
}

func (e *Env) bucketView() view[api.BucketView] {
	return view[api.BucketView]{
		name: func(b api.BucketView) string { return b.Name },
		columns: []column[api.BucketView]{
			{"NAME", false, func(b api.BucketView) string { return b.Name }},
			{"OBJECTS", false, func(b api.BucketView) string { return fmt.Sprint(b.Usage.Objects) }},
			{"SIZE", false, func(b api.BucketView) string { return human(b.Usage.Bytes) }},
			{"REPLICAS", false, func(b api.BucketView) string { return fmt.Sprint(b.Replicas) }},
			{"QUOTA", false, func(b api.BucketView) string { return unlessZero(b.Quota, b.Quota.String()) }},
			{"AGE", false, func(b api.BucketView) string { return e.age(b.CreatedAt) }},
			{"WRITE QUORUM", true, func(b api.BucketView) string { return unlessZero(b.WriteQuorum, fmt.Sprint(b.WriteQuorum)) }},
			{"CLASS", true, func(b api.BucketView) string { return b.Class }},
			{"CHUNKING", true, func(b api.BucketView) string { return b.Chunking }},
			{"COMPRESSION", true, func(b api.BucketView) string { return b.Compression }},
			{"EXPIRY", true, func(b api.BucketView) string { return unlessZero(b.Expiry, b.Expiry.D().String()) }},
			{"UPLOADS", true, func(b api.BucketView) string { return fmt.Sprint(b.Usage.Uploads) }},
		},
	}
}

func unlessZero[T comparable](v T, text string) string {
	if v == *new(T) {
		return ""
	}
	return text
}

func bucketList(e *Env) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List buckets", Args: cobra.NoArgs,
		Example: "  cloudless storage bucket list -o wide",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			q, err := f.query(e, false)
			if err != nil {
				return err
			}
			fetch := func(ctx context.Context, c *client.Client, q api.ListQuery) (api.List[api.BucketView], error) {
				return c.Buckets(ctx, q)
			}
			return listing[api.BucketView]{&f, e.bucketView(), fetch}.run(ctx, e, c, q)
		}),
	}
	f.addPages(cmd)
	return cmd
}

func bucketGet(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "get BUCKET", Short: "Show a bucket and what it holds", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeBuckets(),
		Example: "  cloudless storage bucket get photos -o yaml",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			b, err := c.Bucket(ctx, args[0])
			return orElse(err, func() error { return printOne(e, b, e.bucketView()) })
		}),
	}
}

// bucketFlags are the settings of a bucket.
type bucketFlags struct {
	replicas, quorum             int
	chunking, compression, class string
	quota                        string
	expiry                       time.Duration
}

func (b *bucketFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&b.replicas, "replicas", 0, fmt.Sprintf("copies of each chunk, on different nodes: 1 to %d (default: %d)", api.MaxBucketReplicas, api.DefaultBucketReplicas))
	f.IntVar(&b.quorum, "write-quorum", 0, "copies that must be on disks before a put is answered (default: more than half)")
	f.StringVar(&b.chunking, "chunking", "", "how objects are cut: fixed, or cdc (by content, for files that change in places)")
	f.StringVar(&b.compression, "compression", "", "of chunks: none, s2 or zstd")
	f.StringVar(&b.class, "class", "", "hot, or cold for what is read seldom")
	f.StringVar(&b.quota, "quota", "", "most bytes that it may hold, such as 10Gi; 0: any number")
	f.DurationVar(&b.expiry, "expiry", 0, "after which an object goes by itself, such as 720h; 0: never")
}

// changes are the settings that the command line names, as JSON has them.
func (b *bucketFlags) changes(cmd *cobra.Command) (map[string]any, error) {
	if _, err := api.ParseBytes(b.quota); b.quota != "" && err != nil {
		return nil, usageError("--quota %q is not a size such as 10Gi", b.quota)
	}
	all := map[string]struct {
		field string
		value any
	}{
		"replicas": {"replicas", b.replicas}, "write-quorum": {"writeQuorum", b.quorum}, "chunking": {"chunking", b.chunking}, "compression": {"compression", b.compression},
		"class": {"class", b.class}, "quota": {"quota", b.quota}, "expiry": {"expiry", b.expiry.String()},
	}
	out := map[string]any{}
	for flag, s := range all {
		if cmd.Flags().Changed(flag) {
			out[s.field] = s.value
		}
	}
	return out, nil
}

func bucketCreate(e *Env) *cobra.Command {
	var f bucketFlags
	cmd := &cobra.Command{
		Use: "create BUCKET", Short: "Create a bucket", Args: cobra.ExactArgs(1),
		Example: "  cloudless storage bucket create photos\n  cloudless storage bucket create logs --replicas 2 --class cold --quota 10Gi --expiry 720h",
	}
	f.add(cmd)
	cmd.RunE = e.with(func(ctx context.Context, c *client.Client, args []string) error {
		b := api.Bucket{Name: args[0]}
		settings, err := f.changes(cmd)
		if err != nil {
			return err
		}
		data, err := json.Marshal(settings)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &b); err != nil {
			return err
		}
		v, err := c.CreateBucket(ctx, b)
		return orElse(err, func() error { return e.bucketOutcome(v, "created") })
	})
	return cmd
}

func (e *Env) bucketOutcome(b api.BucketView, what string) error {
	if done, err := e.machine(b); done {
		return err
	}
	return e.did(b.Name, "bucket %s %s", b.Name, what)
}

func bucketSet(e *Env) *cobra.Command {
	var f bucketFlags
	var match uint64
	cmd := &cobra.Command{
		Use: "set BUCKET", Aliases: []string{"update"}, Short: "Change settings of a bucket; they count for objects put later", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeBuckets(),
		Example: "  cloudless storage bucket set photos --replicas 5\n  cloudless storage bucket set photos --quota 0",
	}
	f.add(cmd)
	cmd.Flags().Uint64Var(&match, "if-match", 0, "only if the bucket still has this modifyIndex")
	cmd.RunE = e.with(func(ctx context.Context, c *client.Client, args []string) error {
		settings, err := f.changes(cmd)
		if err != nil {
			return err
		}
		if len(settings) == 0 {
			return usageError("no setting to change").WithHint("see 'cloudless storage bucket set --help'")
		}
		if _, err := c.Bucket(ctx, args[0]); err != nil {
			return err // or it would be created
		}
		v, err := c.SetBucket(ctx, args[0], settings, match)
		return orElse(err, func() error { return e.bucketOutcome(v, "changed") })
	})
	return cmd
}

func bucketDelete(e *Env) *cobra.Command {
	var recursive bool
	cmd := &cobra.Command{
		Use: "delete BUCKET", Aliases: []string{"rm"}, Short: "Delete a bucket that is empty, or with --recursive all that it holds", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeBuckets(),
		Example: "  cloudless storage bucket delete photos\n  cloudless storage bucket delete photos --recursive --yes",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			b, err := c.Bucket(ctx, args[0])
			if err != nil {
				return err
			}
			if recursive && b.Usage.Objects+b.Usage.Uploads > 0 {
				if err := e.emptyBucket(ctx, c, b); err != nil {
					return err
				}
			} else if err := e.confirm("delete bucket " + b.Name); err != nil {
				return err
			}
			err = c.DeleteBucket(ctx, b.Name, 0)
			if api.ReasonOf(err) == api.ReasonBucketNotEmpty && !recursive {
				err = api.AsError(err).WithHint("--recursive deletes the objects too, and gives up the uploads")
			}
			return orElse(err, func() error { return e.did(b.Name, "bucket %s deleted", b.Name) })
		}),
	}
	cmd.Flags().BoolVar(&recursive, "recursive", false, "delete the objects in it too, and give up its unfinished uploads")
	return cmd
}

// emptyBucket deletes the objects of a bucket and gives up its uploads, once somebody agreed to the loss.
func (e *Env) emptyBucket(ctx context.Context, c *client.Client, b api.BucketView) error {
	what := fmt.Sprintf("delete bucket %s and the %d objects in it (%s)", b.Name, b.Usage.Objects, human(b.Usage.Bytes))
	if b.Usage.Uploads > 0 {
		what += fmt.Sprintf(", and give up %d unfinished uploads", b.Usage.Uploads)
	}
	if err := e.confirmLoss(what); err != nil {
		return err
	}
	if b.Usage.Uploads > 0 {
		if err := abortAll(ctx, c, b.Name); err != nil {
			return err
		}
	}
	_, err := e.deleteAll(ctx, c, b.Name, "")
	return err
}
