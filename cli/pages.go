package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
	"github.com/cloudless/cloudless/api/manifest"
)

// listWriter prints a list page by page, in the form that is asked for: a list of any length needs the
// memory of one page, and its first rows are out before the last are fetched.
type listWriter[T any] struct {
	e     *Env
	view  view[T]
	grid  grid
	items int // so far
}

func newListWriter[T any](e *Env, v view[T]) *listWriter[T] {
	return &listWriter[T]{e: e, view: v, grid: grid{e: e, titles: v.titles(e)}}
}

// page prints some items.
func (w *listWriter[T]) page(items []T) (err error) {
	var out bytes.Buffer
	switch {
	case w.e.shows("json"):
		err = w.jsonPage(&out, items)
	case w.e.shows("yaml"):
		err = w.yamlPage(&out, items)
	case w.e.names():
		for _, item := range items {
			fmt.Fprintln(&out, w.view.name(item))
		}
	default:
		return w.grid.print(w.view.rows(w.e, items))
	}
	w.items += len(items)
	if err == nil {
		_, err = w.e.Out.Write(out.Bytes())
	}
	return err
}

// jsonPage writes the list as e.json would write it whole.
func (w *listWriter[T]) jsonPage(out *bytes.Buffer, items []T) error {
	for i, item := range items {
		if w.items+i == 0 {
			out.WriteString("{\n  \"items\": [\n    ")
		} else {
			out.WriteString(",\n    ")
		}
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("    ", "  ")
		if err := enc.Encode(item); err != nil {
			return err
		}
		out.Truncate(out.Len() - 1) // the end of the line comes after a comma, if there is one
	}
	return nil
}

func (w *listWriter[T]) yamlPage(out *bytes.Buffer, items []T) error {
	if len(items) == 0 {
		return nil
	}
	if w.items == 0 {
		out.WriteString("items:\n")
	}
	text, err := manifest.YAML(items)
	out.Write(text)
	return err
}

// tail is what comes after the items.
type tail struct {
	Index  uint64 `json:"index"`
	Cursor string `json:"cursor,omitempty"`
}

// end finishes the list. cursor is where the next page begins, when there is one.
func (w *listWriter[T]) end(index uint64, cursor string) error {
	rest := tail{index, cursor}
	var text []byte
	var err error
	switch {
	case (w.e.shows("json") || w.e.shows("yaml")) && w.items == 0:
		_, err = w.e.machine(api.List[T]{Items: []T{}, Index: index, Cursor: cursor})
	case w.e.shows("json"):
		text, err = json.MarshalIndent(rest, "", "  ")
		text = append(append([]byte("\n  ],"), text[1:]...), '\n') // without its opening brace
	case w.e.shows("yaml"):
		text, err = manifest.YAML(rest)
	case cursor != "":
		w.e.say("more: --continue %s", cursor)
	}
	if err == nil && len(text) > 0 {
		_, err = w.e.Out.Write(text)
	}
	return err
}

// printList prints a list that is all there.
func printList[T any](e *Env, list api.List[T], v view[T]) error {
	w := newListWriter(e, v)
	err := w.page(list.Items)
	return orElse(err, func() error { return w.end(list.Index, list.Cursor) })
}

// stream prints each page before it fetches the next. The index is the first page's: what changed
// while the others were read is after it.
func (l listing[T]) stream(ctx context.Context, e *Env, c *client.Client, q api.ListQuery) error {
	w := newListWriter(e, l.view)
	var index uint64
	for {
		page, err := l.fetch(ctx, c, q)
		if err == nil {
			page.Items, err = l.narrow(page.Items)
		}
		if err == nil {
			err = w.page(page.Items)
		}
		if err != nil {
			return err
		}
		if index == 0 {
			index = page.Index
		}
		if q.Cursor = page.Cursor; q.Cursor == "" || l.flags.limit > 0 {
			return w.end(index, page.Cursor)
		}
	}
}
