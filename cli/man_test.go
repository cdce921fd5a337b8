package cli

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestManWritesAPageForEachCommand(t *testing.T) {
	s := newSession(t)
	pages := s.manPages("first")
	s.env["CLOUDLESS_NAMESPACE"] = "team-a"
	if again := s.manPages("again"); !maps.Equal(pages, again) {
		t.Error("the same version gives other pages elsewhere")
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		page, ok := pages[name]
		delete(pages, name)
		if wanted := cmd.Runnable() || cmd.HasSubCommands(); ok != wanted {
			t.Errorf("there is a page %s: %v, want %v", name, ok, wanted)
		}
		if ok {
			checkPage(t, name, page, cmd)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&Env{Getenv: os.Getenv, Now: time.Now}))
	if len(pages) > 0 {
		t.Errorf("pages of no command: %v", slices.Sorted(maps.Keys(pages)))
	}
}

func TestManSaysWhyItCannotWrite(t *testing.T) {
	s := newSession(t)
	s.want(2, "", "cannot be made", "man", s.file("taken", "")+"/man")
	if err := os.MkdirAll(filepath.Join(s.dir, "man1", "cloudless.1"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.want(2, "", "cannot be written", "man", filepath.Join(s.dir, "man1"))
}

// manPages writes the pages into a folder and returns them by their names.
func (s *session) manPages(folder string) map[string]string {
	s.t.Helper()
	dir := filepath.Join(s.dir, folder)
	if code := s.run("man", dir); code != 0 {
		s.t.Fatal(s.err.String())
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	pages := map[string]string{}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			s.t.Fatal(err)
		}
		pages[entry.Name()] = string(data)
	}
	return pages
}

// roffLine is a line that roff reads as it is meant: a macro that we use, or text in which each sign with a
// meaning of its own is escaped.
var roffLine = regexp.MustCompile(`^(\.(TH|SH) .+|\.(PP|TP|nf|fi|nh|ad l)|` +
	"(\\\\(e|-|&\\.|f[BIR]|\\((aq|dq|ga|ha|ti))|[^\\\\.'\"`^~-])+)$")

func checkPage(t *testing.T, name, page string, cmd *cobra.Command) {
	t.Helper()
	var sections []string
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if title, ok := strings.CutPrefix(line, ".SH "); ok {
			sections = append(sections, title)
		}
		if !roffLine.MatchString(line) {
			t.Errorf("%s: roff would not print this as it is: %q", name, line)
		}
	}
	want := []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "OPTIONS OF EVERY COMMAND", "EXAMPLES", "SEE ALSO"}
	if !cmd.HasParent() {
		want = slices.Delete(want, 4, 5) // they are its own
	}
	if !slices.Equal(sections, want) {
		t.Errorf("%s has the sections %q, want %q", name, sections, want)
	}
}

func TestAManPageSaysAllThatHelpSays(t *testing.T) {
	root := &cobra.Command{Use: "cloudless", Short: "Run"}
	root.PersistentFlags().StringP("output", "o", "", "form of output")
	cmd := &cobra.Command{
		Use: "odd-one FILE.wasm [-- ARG…]", Short: `Do what's "odd"`, Run: func(*cobra.Command, []string) {},
		Long:    ".begins with a dot\n'begins with a quote\n\nC:\\new ~/.x ^a `b`\n\n\ta  tab",
		Example: "  cloudless odd-one 'a b'\n.dot\\n",
	}
	cmd.Flags().Int("count", 3, "how many `copies`")
	cmd.Flags().Bool("dry-run", false, "change nothing")
	cmd.Flags().Duration("timeout", 0, "how long")
	cmd.Flags().StringSlice("zone", nil, "zones")
	cmd.Flags().String("wait", "", "until ready")
	cmd.Flags().Lookup("wait").NoOptDefVal = "ready"
	cmd.Flags().Bool("secret", false, "not told")
	cmd.Flags().Lookup("secret").Hidden = true
	below := &cobra.Command{Use: "below", Short: "Go on", Run: cmd.Run}
	cmd.AddCommand(below, &cobra.Command{Use: "hidden", Hidden: true, Run: cmd.Run}, &cobra.Command{Use: "topic", Long: "A page of help."})
	root.AddCommand(cmd)

	want := `.SH NAME
cloudless\-odd\-one \- Do what\(aqs \(dqodd\(dq
.SH SYNOPSIS
\fBcloudless odd\-one\fR COMMAND
.SH DESCRIPTION
\&.begins with a dot
\(aqbegins with a quote
.PP
C:\enew \(ti/\&.x \(haa \(gab\(ga
.PP
.nf
	a  tab
.fi
.SH OPTIONS
.TP
\fB\-\-count\fR \fIcopies\fR
how many copies (default 3)
.TP
\fB\-\-dry\-run\fR
change nothing
.TP
\fB\-h\fR, \fB\-\-help\fR
help for odd\-one
.TP
\fB\-\-timeout\fR \fIduration\fR
how long
.TP
\fB\-\-wait\fR[=\fIstring\fR]
until ready
.TP
\fB\-\-zone\fR \fIstrings\fR
zones
.SH OPTIONS OF EVERY COMMAND
.TP
\fB\-o\fR, \fB\-\-output\fR \fIstring\fR
form of output
.SH EXAMPLES
.nf
  cloudless odd\-one \(aqa b\(aq
\&.dot\en
.fi
.SH SEE ALSO
\fBcloudless\fR(1),
\fBcloudless\-odd\-one\-below\fR(1)
`
	head, got, _ := strings.Cut(manPage(cmd), ".ad l\n")
	if !strings.HasPrefix(head, `.TH "CLOUDLESS\-ODD\-ONE" 1 "" "Cloudless `) {
		t.Errorf("the head is %q", head)
	}
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if usage := `\fBcloudless odd\-one below\fR [flags]`; !strings.Contains(manPage(below), usage) {
		t.Errorf("%s is not in\n%s", usage, manPage(below))
	}
}
