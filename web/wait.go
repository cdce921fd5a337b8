package web

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
)

// awaitChange makes a read blocking: with ?index=N it returns when one of the tables has changed
// past N, or after ?wait, whichever is first. It leaves the index of the state that the read will at
// least see in the header X-Cloudless-Index, from which the next read can wait.
func (s *server) awaitChange(c *call, tables ...string) error {
	return s.awaitAny(c, func(index uint64) []mark { return marksOf(index, tables) })
}

// mark is a table and the index past which it is to change.
type mark struct {
	table string
	index uint64
}

func marksOf(index uint64, tables []string) []mark {
	var marks []mark
	for _, t := range tables {
		marks = append(marks, mark{t, index})
	}
	return marks
}

// awaitAny is awaitChange for marks that are known only when ?index=N is.
func (s *server) awaitAny(c *call, marks func(index uint64) []mark) error {
	index, err := c.index("index")
	if err != nil {
		return err
	}
	wait, err := waitOf(c)
	if err != nil {
		return err
	}
	if index > 0 {
		if err := s.waitFor(c, wait, marks(index)); err != nil {
			return err
		}
	}
	c.header().Set("X-Cloudless-Index", strconv.FormatUint(s.backend.Index(), 10))
	return nil
}

func waitOf(c *call) (time.Duration, error) {
	text := c.query("wait")
	if text == "" {
		return api.DefaultWait, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, badQuery("wait", text, "a duration such as 30s")
	}
	return min(d, api.MaxBlockingWait), nil
}

func (s *server) waitFor(c *call, wait time.Duration, marks []mark) error {
	end, err := s.sessions.open(c.key())
	if err != nil {
		return err
	}
	defer end()
	ctx, cancel := context.WithTimeout(c.context(), wait)
	defer cancel()
	err = s.waitAny(ctx, marks)
	if errors.Is(err, context.DeadlineExceeded) && c.context().Err() == nil {
		return nil // nothing changed: answer with what there is
	}
	return err
}

// waitAny waits for the first of several tables. Its goroutines have ended when it returns.
func (s *server) waitAny(ctx context.Context, marks []mark) error {
	if len(marks) == 1 {
		return s.backend.Wait(ctx, marks[0].table, marks[0].index)
	}
	group, cancel := context.WithCancel(ctx)
	results := make(chan error, len(marks))
	var wg sync.WaitGroup
	for _, m := range marks {
		wg.Go(func() { results <- s.backend.Wait(group, m.table, m.index) })
	}
	first := <-results
	cancel()
	wg.Wait()
	return first
}

// listQueryOf reads ?namespace=&label=k=v&limit=&cursor=, and waits for a change of the tables.
func (s *server) listQueryOf(c *call, tables ...string) (q api.ListQuery, err error) {
	if q.Limit, err = c.number("limit", api.DefaultListLimit, 1, api.MaxListLimit); err != nil {
		return q, err
	}
	q.Namespace, q.Cursor = c.query("namespace"), c.query("cursor")
	if q.Namespace != "" && !api.ValidName(q.Namespace) {
		return q, badQuery("namespace", q.Namespace, "a name")
	}
	if q.Label, err = labels(c.echo.QueryParams()["label"]); err != nil {
		return q, err
	}
	return q, s.awaitChange(c, tables...)
}

func labels(texts []string) (map[string]string, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	out := make(map[string]string, len(texts))
	for _, text := range texts {
		k, v, found := strings.Cut(text, "=")
		if !found || k == "" {
			return nil, badQuery("label", text, "KEY=VALUE")
		}
		out[k] = v
	}
	return out, nil
}

// page cuts out of a whole list what q asks for, in the order of the ids, which are the cursors. Its items
// have no labels.
func page[T any](l api.List[T], q api.ListQuery, id func(T) string) api.List[T] {
	if len(q.Label) > 0 {
		l.Items = nil
	}
	items := slices.SortedFunc(slices.Values(l.Items), func(a, b T) int { return strings.Compare(id(a), id(b)) })
	items = slices.DeleteFunc(items, func(v T) bool { return id(v) <= q.Cursor })
	if len(items) > q.Limit {
		items = items[:q.Limit]
		l.Cursor = id(items[q.Limit-1])
	}
	l.Items = items
	return l
}

// listOr answers a list, whose items are never null.
func listOr[T any](l api.List[T], err error) (answer, error) {
	if l.Items == nil {
		l.Items = []T{}
	}
	return okOr(l, err)
}
