package cli

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
)

func contextCommand(e *Env) *cobra.Command {
	return newGroup("context", "Name clusters, and choose among them", "  cloudless context list\n  cloudless context use production",
		contextList(e), contextUse(e), contextAdd(e), contextRemove(e))
}

func contextList(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List contexts", Args: cobra.NoArgs, Example: "  cloudless context list",
		RunE: func(*cobra.Command, []string) error {
			f, err := e.loadContexts()
			if err != nil {
				return err
			}
			list := api.List[Context]{}
			for _, c := range f.Contexts {
				list.Items = append(list.Items, c.redacted())
			}
			return printList(e, list, view[Context]{
				name: func(c Context) string { return c.Name },
				columns: []column[Context]{
					{"NAME", false, func(c Context) string { return c.Name }},
					{"CURRENT", false, func(c Context) string { return yesNo(c.Name == f.Current) }},
					{"ADDRESS", false, func(c Context) string { return c.Address }},
					{"NAMESPACE", false, func(c Context) string { return c.Namespace }},
				},
			})
		},
	}
}

// redacted hides a token that is kept as text.
func (c Context) redacted() Context {
	c.Token = redact(c.Token)
	return c
}

func redact(token string) string {
	if token == "" || strings.HasPrefix(token, "@") {
		return token
	}
	return "(hidden)"
}

func contextUse(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Make a context the current one", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeContexts(),
		Example: "  cloudless context use production",
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := e.loadContexts()
			if err != nil {
				return err
			}
			if _, ok := f.Get(args[0]); !ok {
				return api.Errorf(api.CodeNotFound, "there is no context %q", args[0]).WithHint("see 'cloudless context list'")
			}
			f.Current = args[0]
			err = f.Save()
			return orElse(err, func() error { return e.did(args[0], "context %s is current", args[0]) })
		},
	}
}

var contextName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// contextAdd takes what to keep from the same flags that every command has.
func contextAdd(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "add NAME --address URL", Short: "Add or replace a context", Args: cobra.ExactArgs(1),
		Example: "  cloudless context add production --address https://10.0.0.1:7700,https://10.0.0.2:7700 --ca-cert ca.pem --token @admin.token",
		RunE: func(_ *cobra.Command, args []string) error {
			g := e.flags
			if err := wherever(&g.token, &g.caCert, &g.clientCert, &g.clientKey); err != nil {
				return err
			}
			if !contextName.MatchString(args[0]) {
				return usageError("%q is not the name of a context: use letters, digits and . _ - inside, 1 to 63 characters", args[0])
			}
			if g.address == "" {
				return usageError("context add needs --address")
			}
			token := g.token
			if !strings.HasPrefix(token, "@") { // a file stays a file; other forms are kept as text, mode 0600
				var err error
				if token, err = e.readToken(token, true); err != nil {
					return err
				}
			}
			f, err := e.loadContexts()
			if err != nil {
				return err
			}
			f.Set(Context{Name: args[0], Address: g.address, Token: token, CACert: g.caCert, ClientCert: g.clientCert, ClientKey: g.clientKey, Namespace: g.namespace})
			if f.Current == "" {
				f.Current = args[0]
			}
			err = f.Save()
			return orElse(err, func() error { return e.did(args[0], "context %s added", args[0]) })
		},
	}
}

// wherever makes the files that settings name those that they are here, whatever folder they are used from.
// A token is a file only with @ before it.
func wherever(token *string, files ...*string) (err error) {
	if name, isFile := strings.CutPrefix(*token, "@"); isFile {
		name, err = filepath.Abs(name)
		*token = "@" + name
	}
	for _, f := range files {
		if *f != "" && err == nil {
			*f, err = filepath.Abs(*f)
		}
	}
	return err
}

func contextRemove(e *Env) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Aliases: []string{"rm"}, Short: "Forget a context", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completeContexts(),
		Example: "  cloudless context remove staging",
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := e.loadContexts()
			if err != nil {
				return err
			}
			if !f.Remove(args[0]) {
				return api.Errorf(api.CodeNotFound, "there is no context %q", args[0]).WithHint("see 'cloudless context list'")
			}
			err = f.Save()
			return orElse(err, func() error { return e.did(args[0], "context %s removed", args[0]) })
		},
	}
}

func (e *Env) completeContexts() completion {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		f, err := e.loadContexts()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, c := range f.Contexts {
			names = append(names, c.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func configCommand(e *Env) *cobra.Command {
	var origin bool
	show := &cobra.Command{
		Use: "view", Short: "Show the client settings in force", Args: cobra.NoArgs, Example: "  cloudless config view --show-origin",
		RunE: func(*cobra.Command, []string) error {
			s, err := e.settings()
			if err != nil {
				return err
			}
			return e.printSettings(s, origin)
		},
	}
	show.Flags().BoolVar(&origin, "show-origin", false, "say where each comes from")
	return newGroup("config", "See the client settings", "  cloudless config view --show-origin", show)
}

// named lists the settings in the order in which they are shown, without the token's text.
func (s settings) named() []namedSetting {
	token := s.token
	token.value = redact(token.value)
	return []namedSetting{{"context", s.context}, {"address", s.address}, {"token", token}, {"caCert", s.caCert},
		{"clientCert", s.clientCert}, {"clientKey", s.clientKey}, {"namespace", s.namespace}, {"output", s.output}}
}

type namedSetting struct {
	name string
	setting
}

// object is the settings for programs.
func (s settings) object(origin bool) map[string]string {
	out := map[string]string{}
	for _, x := range s.named() {
		out[x.name] = x.value
		if origin {
			out[x.name+"Origin"] = x.origin
		}
	}
	return out
}

func (e *Env) printSettings(s settings, origin bool) error {
	var rows [][]string
	for _, x := range s.named() {
		row := []string{x.name, dash(x.value)}
		if origin {
			row = append(row, x.origin)
		}
		rows = append(rows, row)
	}
	if done, err := e.machine(s.object(origin)); done {
		return err
	}
	titles := []string{"SETTING", "VALUE", "ORIGIN"}
	if !origin {
		titles = titles[:2]
	}
	if err := e.table(titles, rows); err != nil {
		return fmt.Errorf("the settings cannot be printed: %w", err)
	}
	return nil
}
