package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

func tokenCommand(e *Env) *cobra.Command {
	return newGroup("token", "Make and revoke tokens for people and for joining", "  cloudless token create --role node -q > node.token\n  cloudless token list",
		tokenCreate(e), tokenList(e), tokenRevoke(e))
}

func tokenCreate(e *Env) *cobra.Command {
	var r api.TokenRequest
	var role string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "create --role ROLE | --s3", Short: "Make a token and print it once", Args: cobra.NoArgs,
		Example: "  cloudless token create --role viewer --ttl 720h\n  cloudless token create --role node --uses 3 -q > node.token\n  cloudless token create --s3 --bucket photos > s3.env",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			r.Role, r.TTL = api.Role(role), api.Duration(ttl)
			if err := checkS3Flags(r); err != nil {
				return err
			}
			if !r.S3 && !slices.Contains([]api.Role{api.RoleAdmin, api.RoleOperator, api.RoleViewer, api.RoleNode, api.RoleServer}, r.Role) {
				return usageError("--role %q is not one of admin, operator, viewer, node, server", role)
			}
			if ttl < 0 || r.Uses < 0 {
				return usageError("--ttl and --uses cannot be negative")
			}
			t, err := c.CreateToken(ctx, r)
			if err != nil {
				return err
			}
			return e.printToken(t)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "", "admin, operator, viewer (for people), node or server (for joining)")
	f.BoolVar(&r.S3, "s3", false, "make an access key for the S3 API in place of a token with a role")
	f.StringVar(&r.Bucket, "bucket", "", "the only bucket that the S3 key opens (default: all)")
	f.BoolVar(&r.ReadOnly, "read-only", false, "the S3 key reads, and changes nothing")
	f.DurationVar(&ttl, "ttl", 0, "how long it is good (default: 1h for node and server, else for ever)")
	f.IntVar(&r.Uses, "uses", 0, "how often it may be used to join (default: any number of times)")
	f.StringVar(&r.Name, "name", "", "the only node name that may join with it")
	f.StringVar(&r.Description, "description", "", "what it is for")
	return cmd
}

func checkS3Flags(r api.TokenRequest) error {
	switch {
	case r.S3 && (r.Role != "" || r.Uses != 0 || r.Name != ""):
		return usageError("--s3 does not go with --role, --uses or --name")
	case !r.S3 && (r.Bucket != "" || r.ReadOnly):
		return usageError("--bucket and --read-only are for S3 keys: give --s3 too")
	}
	return nil
}

// printToken is the only place where a secret is printed.
func (e *Env) printToken(t api.Token) error {
	if t.Role == api.RoleS3 {
		return e.printS3Key(t)
	}
	if done, err := e.machine(t); done {
		return err
	}
	if e.flags.quiet {
		_, err := fmt.Fprintln(e.Out, t.Secret)
		return err
	}
	if e.shows("name") {
		_, err := fmt.Fprintln(e.Out, t.ID)
		return err
	}
	if _, err := fmt.Fprintln(e.Out, t.Secret); err != nil {
		return err
	}
	e.say("token %s, role %s, %s; it is not shown again", t.ID, t.Role, expiry(t))
	return nil
}

// s3Key is an S3 key by the names that S3 clients have for it.
type s3Key struct {
	api.Token
	AccessKey string `json:"accessKey"`
	SecretKey string `json:"secretKey"`
}

// printS3Key prints the two parts: with -q on one line, for 'read', otherwise as an environment file.
func (e *Env) printS3Key(t api.Token) error {
	k := s3Key{t, t.ID, t.Secret}
	k.Secret = ""
	if done, err := e.machine(k); done {
		return err
	}
	var err error
	switch {
	case e.flags.quiet:
		_, err = fmt.Fprintln(e.Out, k.AccessKey, k.SecretKey)
	case e.shows("name"):
		_, err = fmt.Fprintln(e.Out, k.AccessKey)
	default:
		_, err = fmt.Fprint(e.Out, s3Env(k.AccessKey, k.SecretKey))
		e.say("%s, %s; the secret is not shown again. End it with 'cloudless token revoke %s'", s3Grant(t), expiry(t), t.ID)
	}
	return err
}

// s3Grant says what an S3 key is good for.
func s3Grant(t api.Token) string {
	may, where := "read and write", "all buckets"
	if t.ReadOnly {
		may = "read only"
	}
	if t.Bucket != "" {
		where = "bucket " + t.Bucket
	}
	return may + ", " + where
}

func expiry(t api.Token) string {
	if t.ExpiresAt == nil {
		return "no expiry"
	}
	return "until " + t.ExpiresAt.UTC().Format(time.RFC3339)
}

func tokenList(e *Env) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List tokens, without their secrets", Args: cobra.NoArgs,
		Example: "  cloudless token list",
		RunE: e.with(func(ctx context.Context, c *client.Client, _ []string) error {
			q, err := f.query(e, false)
			if err != nil {
				return err
			}
			fetch := func(ctx context.Context, c *client.Client, q api.ListQuery) (api.List[api.Token], error) {
				return c.Tokens(ctx, q)
			}
			return listing[api.Token]{&f, e.tokenView(), fetch}.run(ctx, e, c, q)
		}),
	}
	f.add(cmd)
	return cmd
}

func (e *Env) tokenView() view[api.Token] {
	return view[api.Token]{
		name: func(t api.Token) string { return t.ID },
		columns: []column[api.Token]{
			{"ID", false, func(t api.Token) string { return t.ID }},
			{"ROLE", false, func(t api.Token) string { return string(t.Role) }},
			{"NAME", false, func(t api.Token) string { return t.Name }},
			{"USES", false, uses},
			{"EXPIRES", false, func(t api.Token) string { return expiry(t) }},
			{"AGE", false, func(t api.Token) string { return e.age(t.CreatedAt) }},
			{"GRANT", true, func(t api.Token) string {
				if t.Role != api.RoleS3 {
					return ""
				}
				return s3Grant(t)
			}},
			{"DESCRIPTION", false, func(t api.Token) string { return t.Description }},
		},
	}
}

func uses(t api.Token) string {
	if !t.Limited {
		return "any"
	}
	return fmt.Sprint(t.Uses)
}

func tokenRevoke(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID…", Aliases: []string{"delete", "rm"}, Short: "End tokens", Args: cobra.MinimumNArgs(1),
		Example: "  cloudless token revoke t-abcdefghij",
		ValidArgsFunction: e.complete(func(ctx context.Context, c *client.Client) ([]string, error) {
			list, err := c.Tokens(ctx, api.ListQuery{})
			var ids []string
			for _, t := range list.Items {
				ids = append(ids, t.ID)
			}
			return ids, err
		}),
		RunE: e.with(func(ctx context.Context, c *client.Client, args []string) error {
			for _, id := range args {
				if err := c.RevokeToken(ctx, id); err != nil {
					return err
				}
				if err := e.did(id, "token %s revoked", id); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}
