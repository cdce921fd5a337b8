package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudless/cloudless/api"
)

// This file writes the manual pages as man(7) wants them. cobra/doc would write Markdown, and brings a
// parser of it to make roff of that: 0.26 MB of the binary (docs/RATIONALE.md).

// manCommand writes one page a command.
func manCommand(e *Env, root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the manual pages into a folder", Args: cobra.ExactArgs(1),
		Example: "  cloudless man /usr/local/share/man/man1",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return api.Errorf(api.CodeInvalid, "the folder cannot be made: %w", err)
			}
			cmds := documented(root)
			for _, cmd := range cmds {
				if err := os.WriteFile(filepath.Join(args[0], pageName(cmd)+".1"), []byte(manPage(cmd)), 0o644); err != nil {
					return api.Errorf(api.CodeInvalid, "the manual pages cannot be written: %w", err)
				}
			}
			return e.did(args[0], "%d manual pages written to %s", len(cmds), args[0])
		},
	}
}

// documented is a command and all those below it that have a page; topics and what is hidden have none.
func documented(cmd *cobra.Command) []*cobra.Command {
	cmds := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			cmds = append(cmds, documented(sub)...)
		}
	}
	return cmds
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage has no date, so that the same version gives the same page. Words are not divided: names and
// flags are to be copied and searched for.
func manPage(cmd *cobra.Command) string {
	cmd.InitDefaultHelpFlag() // which cobra gives only to the command that runs
	var b strings.Builder
	fmt.Fprintf(&b, ".TH \"%s\" 1 \"\" \"Cloudless %s\" Cloudless\n.nh\n.ad l\n", roff(strings.ToUpper(pageName(cmd))), roff(version()))
	section := func(title, body string) {
		if body != "" {
			fmt.Fprintf(&b, ".SH %s\n%s\n", title, body)
		}
	}
	section("NAME", roff(pageName(cmd)+" - "+cmd.Short))
	section("SYNOPSIS", bold(cmd.CommandPath())+roff(strings.TrimPrefix(usageLine(cmd), cmd.CommandPath())))
	section("DESCRIPTION", manText(description(cmd)))
	section("OPTIONS", manFlags(cmd.LocalFlags()))
	section("OPTIONS OF EVERY COMMAND", manFlags(cmd.InheritedFlags()))
	section("EXAMPLES", manText(cmd.Example))
	section("SEE ALSO", seeAlso(cmd))
	return b.String()
}

// manText fills paragraphs, but leaves lines as they are where the first is indented.
func manText(text string) string {
	var paragraphs []string
	for p := range strings.SplitSeq(strings.TrimRight(text, " \n"), "\n\n") {
		if strings.HasPrefix(p, " ") || strings.HasPrefix(p, "\t") {
			paragraphs = append(paragraphs, ".nf\n"+roff(p)+"\n.fi")
		} else {
			paragraphs = append(paragraphs, roff(p))
		}
	}
	return strings.Join(paragraphs, "\n.PP\n")
}

func manFlags(flags *pflag.FlagSet) string {
	var entries []string
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			entries = append(entries, manFlag(f))
		}
	})
	return strings.Join(entries, "\n")
}

// manFlag names a flag and its value, and tells below what it does, and without it, as --help does.
func manFlag(f *pflag.Flag) string {
	value, about := pflag.UnquoteUsage(f)
	tag := bold("--" + f.Name)
	if f.Shorthand != "" {
		tag = bold("-"+f.Shorthand) + ", " + tag
	}
	switch {
	case value == "":
	case f.NoOptDefVal != "":
		tag += "[=" + italic(value) + "]"
	default:
		tag += " " + italic(value)
	}
	switch f.DefValue {
	case "", "0", "0s", "false", "[]":
	default:
		about += " (default " + f.DefValue + ")"
	}
	return ".TP\n" + tag + "\n" + roff(about)
}

// seeAlso names the pages above and below.
func seeAlso(cmd *cobra.Command) string {
	var pages []string
	if cmd.HasParent() {
		pages = append(pages, bold(pageName(cmd.Parent()))+"(1)")
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			pages = append(pages, bold(pageName(sub))+"(1)")
		}
	}
	return strings.Join(pages, ",\n")
}

func bold(s string) string   { return `\fB` + roff(s) + `\fR` }
func italic(s string) string { return `\fI` + roff(s) + `\fR` }

// roff escapes what roff would take as its own (a backslash, a line that begins with a dot or a quote, a
// quote within an argument) or would print as a finer sign than the one that a shell understands.
var roff = strings.NewReplacer(
	`\`, `\e`, `.`, `\&.`, `-`, `\-`, `'`, `\(aq`, `"`, `\(dq`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`,
).Replace
