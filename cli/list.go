package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// listFlags narrow, order and follow a list.
type listFlags struct {
	selector []string
	fields   []string
	sortBy   string
	limit    int
	cursor   string
	watch    bool
	all      bool // namespaces
}

func (l *listFlags) add(cmd *cobra.Command) {
	l.addPages(cmd)
	f := cmd.Flags()
	f.StringSliceVarP(&l.selector, "selector", "l", nil, "only with these labels, k=v")
	f.BoolVarP(&l.watch, "watch", "w", false, "show changes as they come")
}

// addPages is add for what has no labels and cannot be watched.
func (l *listFlags) addPages(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&l.fields, "field", nil, "only where a column has a value, COLUMN=VALUE")
	f.StringVar(&l.sortBy, "sort-by", "", "order by a column")
	f.IntVar(&l.limit, "limit", 0, "at most so many (default: all)")
	f.StringVar(&l.cursor, "continue", "", "go on from the cursor of an earlier list")
}

func (l *listFlags) addNamespaced(cmd *cobra.Command) {
	l.add(cmd)
	cmd.Flags().BoolVarP(&l.all, "all-namespaces", "A", false, "of all namespaces")
}

// query is what the server can do of the flags.
func (l *listFlags) query(e *Env, namespaced bool) (api.ListQuery, error) {
	q := api.ListQuery{Limit: l.limit, Cursor: l.cursor}
	if l.limit < 0 || l.limit > api.MaxListLimit {
		return q, usageError("--limit %d is not between 0 and %d", l.limit, api.MaxListLimit)
	}
	var err error
	if q.Label, err = pairs("--selector", l.selector); err != nil {
		return q, err
	}
	if namespaced && !l.all {
		q.Namespace, err = e.namespace()
	}
	return q, err
}

// pairs reads k=v words.
func pairs(flag string, words []string) (map[string]string, error) {
	m := map[string]string{}
	for _, word := range words {
		k, v, ok := strings.Cut(word, "=")
		if !ok || k == "" {
			return nil, usageError("%s %q is not KEY=VALUE", flag, word)
		}
		m[k] = v
	}
	return m, nil
}

// listing is one kind of list command.
type listing[T any] struct {
	flags *listFlags
	view  view[T]
	fetch func(context.Context, *client.Client, api.ListQuery) (api.List[T], error)
}

// run prints the list; with --watch again what changes.
func (l listing[T]) run(ctx context.Context, e *Env, c *client.Client, q api.ListQuery) error {
	if !l.flags.watch && l.flags.sortBy == "" {
		return l.stream(ctx, e, c, q)
	}
	get := func(index uint64) (api.List[T], error) {
		q.Index, q.Wait = index, api.DefaultWait
		list, err := l.all(ctx, c, q)
		if err == nil {
			list.Items, err = l.narrow(list.Items)
		}
		return list, err
	}
	list, err := get(0)
	if err != nil {
		return err
	}
	if l.flags.watch {
		return l.follow(ctx, e, list, get)
	}
	return printList(e, list, l.view)
}

// all gives the list whole, or the one page that --limit asks for.
func (l listing[T]) all(ctx context.Context, c *client.Client, q api.ListQuery) (api.List[T], error) {
	if l.flags.limit > 0 {
		return l.fetch(ctx, c, q)
	}
	return client.Pages(q, func(q api.ListQuery) (api.List[T], error) { return l.fetch(ctx, c, q) })
}

// narrow keeps the items whose columns have the values of --field, in the order of --sort-by.
func (l listing[T]) narrow(items []T) ([]T, error) {
	for _, word := range l.flags.fields {
		name, want, ok := strings.Cut(word, "=")
		if !ok {
			return nil, usageError("--field %q is not COLUMN=VALUE", word)
		}
		value, err := l.view.column(name)
		if err != nil {
			return nil, err
		}
		items = slices.DeleteFunc(items, func(item T) bool { return !strings.EqualFold(value(item), want) })
	}
	if l.flags.sortBy == "" {
		return items, nil
	}
	value, err := l.view.column(l.flags.sortBy)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(items, func(a, b T) int { return natural(value(a), value(b)) })
	return items, nil
}

// natural orders numbers by their value, whatever their unit, and before texts.
func natural(a, b string) int {
	x, okA := quantity(a)
	y, okB := quantity(b)
	switch {
	case okA && okB && x != y:
		return cmp.Compare(x, y)
	case okA != okB && okA:
		return -1
	case okA != okB:
		return 1
	}
	return strings.Compare(a, b)
}

// units are those of columns. A column of m has either minutes among other times, or thousandths alone.
var units = map[string]float64{
	"": 1, "%": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}

// quantity reads what columns show: 7, 250m, 3%, 1.5 MiB, 2d.
func quantity(text string) (float64, bool) {
	unit := strings.TrimLeft(text, ".0123456789")
	size, known := units[strings.TrimPrefix(unit, " ")]
	x, err := strconv.ParseFloat(strings.TrimSuffix(text, unit), 64)
	return x * size, known && err == nil
}

// column finds a column by its title, in any case.
func (v view[T]) column(name string) (func(T) string, error) {
	var titles []string
	for _, c := range v.columns {
		if strings.EqualFold(c.title, name) {
			return c.value, nil
		}
		titles = append(titles, strings.ToLower(c.title))
	}
	return nil, usageError("there is no column %q", name).WithHint("there are %s", strings.Join(titles, ", "))
}

// follow draws the list anew on a terminal, and elsewhere appends what changed: a row, or a line of JSON.
func (l listing[T]) follow(ctx context.Context, e *Env, list api.List[T], get func(uint64) (api.List[T], error)) error {
	out := newListWriter(e, l.view)
	for shown := map[string]string{}; ; {
		if err := l.draw(out, list.Items, shown); err != nil {
			return err
		}
		next, err := again(ctx, e, func() (api.List[T], error) { return get(list.Index) })
		if err != nil {
			return err
		}
		if next.Index <= list.Index {
			if err := pause(ctx, 200*time.Millisecond); err != nil {
				return err
			}
		}
		list = next
	}
}

// watchRetry is the pause of a watch that finds no coordinator.
const watchRetry = time.Second

// again asks until a coordinator answers: a watch outlives a change of leader, a restart of the
// cluster and a broken network, and ends with ctx.
func again[T any](ctx context.Context, e *Env, ask func() (T, error)) (T, error) {
	for told := false; ; told = true {
		v, err := ask()
		if api.CodeOf(err) != api.CodeUnavailable {
			return v, err
		}
		if !told {
			e.say("no answer, still trying: %s", oneLine(err.Error()))
		}
		if err := pause(ctx, watchRetry); err != nil {
			return v, err
		}
	}
}

// draw shows the items as they are now. shown is what was shown of them last, by name.
func (l listing[T]) draw(out *listWriter[T], items []T, shown map[string]string) error {
	e := out.e
	if isTerminal(e.Out) && !e.shows("json", "yaml") {
		fmt.Fprint(e.Out, "\x1b[H\x1b[2J")
		return printItems(e, items, l.view)
	}
	gone := maps.Clone(shown)
	var changed []T
	for _, item := range items {
		data, err := json.Marshal(item)
		if err != nil {
			return err
		}
		name := l.view.name(item)
		delete(gone, name)
		if shown[name] == string(data) {
			continue
		}
		shown[name], changed = string(data), append(changed, item)
		if e.shows("json", "yaml") {
			if _, err := fmt.Fprintln(e.Out, string(data)); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		delete(shown, name)
		e.say("%s is gone", name)
	}
	if e.shows("json", "yaml") {
		return nil
	}
	return out.page(changed)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
