package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func uploadCommand(e *Env) *cobra.Command {
	cmd := newGroup("upload", "See and give up uploads in parts that S3 clients began and did not end",
		"  cloudless storage upload list photos\n  cloudless storage upload list photos -q | xargs cloudless storage upload abort photos", uploadList(e), uploadAbort(e))
	cmd.Aliases = []string{"uploads"}
	return cmd
}

func (e *Env) uploadView() view[api.Upload] {
	return view[api.Upload]{
		name: func(u api.Upload) string { return u.ID },
		columns: []column[api.Upload]{
			{"ID", false, func(u api.Upload) string { return u.ID }},
			{"KEY", false, func(u api.Upload) string { return u.Key }},
			{"STARTED", false, func(u api.Upload) string { return e.age(u.Started) }},
			{"TYPE", true, func(u api.Upload) string { return u.ContentType }},
			{"METADATA", true, func(u api.Upload) string { return labels(u.Metadata) }},
		},
	}
}

func uploadList(e *Env) *cobra.Command {
	var f listFlags
	var prefix string
	cmd := &cobra.Command{
		Use: "list BUCKET", Aliases: []string{"ls"}, Short: "List the unfinished uploads of a bucket, by key", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeBuckets(),
		Example: "  cloudless storage upload list photos --prefix 2026/",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			page, err := f.query(e, false)
			if err != nil {
				return err
			}
			fetch := func(ctx context.Context, c *client.Client, q api.ListQuery) (api.List[api.Upload], error) {
				return c.Uploads(ctx, args[0], prefix, q)
			}
			return listing[api.Upload]{&f, e.uploadView(), fetch}.run(ctx, e, c, page)
		}),
	}
	f.addPages(cmd)
	cmd.Flags().StringVar(&prefix, "prefix", "", "only keys that begin with this")
	return cmd
}

func uploadAbort(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "abort BUCKET ID...", Aliases: []string{"delete", "rm"}, Short: "Give up unfinished uploads, and the parts that came", Args: cobra.MinimumNArgs(2), ValidArgsFunction: e.completeBuckets(),
		Example: "  cloudless storage upload list photos -q | xargs cloudless storage upload abort photos",
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := allUploads(ctx, c, args[0])
			if err != nil {
				return err
			}
			for _, id := range args[1:] {
				at := slices.IndexFunc(all, func(u api.Upload) bool { return u.ID == id })
				if at < 0 {
					return api.Errorf(api.CodeNotFound, "bucket %s has no unfinished upload %s", args[0], id).WithHint("see 'cloudless storage upload list %s'", args[0])
				}
				if err := e.confirm(fmt.Sprintf("give up upload %s of %s/%s", id, args[0], all[at].Key)); err != nil {
					return err
				}
				if err := c.AbortUpload(ctx, all[at]); err != nil {
					return err
				}
				if err := e.did(id, "upload %s aborted", id); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func allUploads(ctx context.Context, c *client.Client, bucket string) ([]api.Upload, error) {
	all, err := client.Pages(api.ListQuery{}, func(q api.ListQuery) (api.List[api.Upload], error) { return c.Uploads(ctx, bucket, "", q) })
	return all.Items, err
}

// abortAll gives up every unfinished upload of a bucket. One that ended meanwhile is as good as given up.
func abortAll(ctx context.Context, c *client.Client, bucket string) error {
	all, err := allUploads(ctx, c, bucket)
	for _, u := range all {
		if err := c.AbortUpload(ctx, u); err != nil && api.CodeOf(err) != api.CodeNotFound {
			return err
		}
	}
	return err
}
