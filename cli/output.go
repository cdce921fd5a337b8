package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api/manifest"
)

// column is one column of a table; a wide one shows with -o wide only.
type column[T any] struct {
	title string
	wide  bool
	value func(T) string
}

// view says how things of one type are printed.
type view[T any] struct {
	columns []column[T]
	name    func(T) string
}

// shows tells whether the output is one of formats.
func (e *Env) shows(formats ...string) bool { return slices.Contains(formats, e.flags.output) }

// names tells whether a list is to be its names alone.
func (e *Env) names() bool { return e.shows("name") || e.flags.quiet }

// machine prints v as JSON or YAML if that is asked for.
func (e *Env) machine(v any) (done bool, err error) {
	switch e.flags.output {
	case "json":
		return true, e.json(v)
	case "yaml":
		text, err := manifest.YAML(v)
		if err != nil {
			return true, err
		}
		_, err = e.Out.Write(text)
		return true, err
	}
	return false, nil
}

func (e *Env) json(v any) error {
	enc := json.NewEncoder(e.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printOne prints one thing, as a table of one row.
func printOne[T any](e *Env, item T, v view[T]) error {
	if done, err := e.machine(item); done {
		return err
	}
	return printItems(e, []T{item}, v)
}

func printItems[T any](e *Env, items []T, v view[T]) error {
	if e.names() {
		for _, item := range items {
			if _, err := fmt.Fprintln(e.Out, v.name(item)); err != nil {
				return err
			}
		}
		return nil
	}
	return e.table(v.titles(e), v.rows(e, items))
}

func (v view[T]) shown(e *Env) []column[T] {
	return slices.DeleteFunc(slices.Clone(v.columns), func(c column[T]) bool { return c.wide && !e.shows("wide") })
}

func (v view[T]) titles(e *Env) []string {
	var out []string
	for _, c := range v.shown(e) {
		out = append(out, c.title)
	}
	return out
}

func (v view[T]) rows(e *Env, items []T) [][]string {
	rows := make([][]string, 0, len(items))
	for _, item := range items {
		var row []string
		for _, c := range v.shown(e) {
			row = append(row, dash(c.value(item)))
		}
		rows = append(rows, row)
	}
	return rows
}

// table prints rows under titles.
func (e *Env) table(titles []string, rows [][]string) error {
	return (&grid{e: e, titles: titles}).print(rows)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// age is a moment as people see it: how long ago on a terminal, RFC 3339 to a program.
func (e *Env) age(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	if !isTerminal(e.Out) {
		return t.UTC().Format(time.RFC3339)
	}
	return short(e.Now().Sub(t))
}

// short rounds a duration to its greatest unit.
func short(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// say prints one line of information on standard error, unless --quiet.
func (e *Env) say(format string, args ...any) {
	if !e.flags.quiet {
		fmt.Fprintf(e.Err, format+"\n", args...)
	}
}

// warn prints a warning on standard error, --quiet or not.
func (e *Env) warn(format string, args ...any) {
	fmt.Fprintf(e.Err, "warning: "+format+"\n", args...)
}

// paint gives a word a colour on a terminal, if there is one for it.
func (e *Env) paint(code, word string) string {
	if code == "" || !e.colour() {
		return word
	}
	return "\x1b[" + code + "m" + word + "\x1b[0m"
}

func labels(m map[string]string) string {
	var parts []string
	for k, v := range m {
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
