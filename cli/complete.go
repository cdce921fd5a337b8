package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudless/cloudless/api/client"
)

// completionTime is how long a shell waits for names.
const completionTime = 150 * time.Millisecond

// completion offers live names: quickly or not at all.
type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// names are those that a kind of thing in the cluster has.
type names = func(context.Context, *client.Client) ([]string, error)

func (e *Env) complete(list names) completion {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 && !takesMany(cmd) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return e.live(list, args, word), cobra.ShellCompDirectiveNoFileComp
	}
}

// live are the names that begin with the word and are not among the arguments yet.
func (e *Env) live(list names, args []string, word string) (fit []string) {
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	c, err := e.connect()
	if err != nil {
		return nil
	}
	all, _ := list(ctx, c) // what came in time
	for _, n := range all {
		if strings.HasPrefix(n, word) && !slices.Contains(args, n) {
			fit = append(fit, n)
		}
	}
	return fit
}

func (e *Env) completeWorkloads() completion {
	return e.complete(func(ctx context.Context, c *client.Client) ([]string, error) {
		ns, err := e.namespace()
		if err != nil {
			return nil, err
		}
		return workloadNames(ctx, c, ns)
	})
}

func (e *Env) completeNodes() completion { return e.complete(nodeNames) }

// takesMany tells whether a command's first argument may be repeated, as in "delete NAME…".
func takesMany(cmd *cobra.Command) bool {
	words := strings.Fields(cmd.Use)
	return len(words) > 1 && strings.HasSuffix(words[1], "…")
}

// flagWords are the words that flags take, wherever they are.
var flagWords = map[string][]string{
	"output":      {"table", "wide", "json", "yaml", "name"},
	"role":        {"admin", "operator", "viewer", "node", "server"},
	"severity":    {"info", "warning", "error"},
	"for":         {"ready", "routed", "deleted"},
	"wait":        {"ready", "routed"},
	"mode":        {"http", "service", "job"},
	"restart":     {"always", "onFailure", "never"},
	"network":     {"bridge", "host"},
	"spread":      {"zone", "region", "node"},
	"on-stop":     {"restart", "drain", "kill"},
	"chunking":    {"fixed", "cdc"},
	"compression": {"none", "s2", "zstd"},
	"class":       {"hot", "cold"},
	"log-level":   {"debug", "info", "warn", "error"},
}

// completes tells whether a shell asks for words: only then are those of the flags needed, and collecting
// them takes longer than making all the commands.
func completes(args []string) bool {
	return len(args) > 0 && slices.Contains([]string{cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, args[0])
}

// completeFlags offers the values of flags that take certain words, or the name of a context or a namespace.
func (e *Env) completeFlags(cmd *cobra.Command) {
	offer := func(f *pflag.Flag) {
		choose := completion(nil)
		if words, ok := flagWords[f.Name]; ok {
			choose = cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
		} else if f.Name == "context" {
			choose = e.completeContexts()
		} else if f.Name == "namespace" {
			choose = func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
				return e.live(namespaceNames, nil, word), cobra.ShellCompDirectiveNoFileComp
			}
		}
		if choose != nil {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, choose) // fails for a flag that is not there, or twice
		}
	}
	cmd.LocalNonPersistentFlags().VisitAll(offer)
	cmd.PersistentFlags().VisitAll(offer)
	for _, sub := range cmd.Commands() {
		e.completeFlags(sub)
	}
}
