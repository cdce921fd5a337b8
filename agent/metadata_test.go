package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/run"
)

// coordinators answers what is asked on lines: changes, each with the key that it puts, and reads, each with
// the key that it asks for. It keeps how they came.
type coordinators struct {
	mu      sync.Mutex
	batches []int
	takes   time.Duration
	err     error
	answers func(q meta.Query) *meta.Answer // of a read; nil: an object. Without an answer it ends
	alone   []meta.Query                    // that were asked by themselves
}

func (c *coordinators) open() *metadata { return newMetadata(c.askLine, c.ask) }

func (c *coordinators) askLine(ctx context.Context, kind byte, in, out any, repeat bool) error {
	if repeat != (kind == api.LineMetaRead) {
		return errors.New("a change is asked for once, a read again")
	}
	switch in := in.(type) {
	case meta.Commands:
		for _, cmd := range in.Commands {
			out.(*meta.Results).Results = append(out.(*meta.Results).Results, meta.Result{Object: &api.Object{Key: cmd.Put.Key}})
		}
		return c.answer(ctx, len(in.Commands))
	case meta.Queries:
		for _, q := range in.Queries {
			a := c.answerTo(q)
			if a == nil {
				break
			}
			out.(*meta.Answers).Answers = append(out.(*meta.Answers).Answers, a)
		}
		return c.answer(ctx, len(in.Queries))
	}
	return errors.New("this is not asked on lines")
}

func (c *coordinators) ask(ctx context.Context, path string, in, out any, repeat bool) error {
	queries := in.(meta.Queries).Queries
	if path != api.PathMetaRead || !repeat || len(queries) != 1 {
		return errors.New("not one query")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alone = append(c.alone, queries[0])
	out.(*meta.Answers).Answers = []*meta.Answer{objectOf(queries[0])}
	return nil
}

// answer takes its time.
func (c *coordinators) answer(ctx context.Context, n int) error {
	c.mu.Lock()
	c.batches = append(c.batches, n)
	err := c.err
	c.mu.Unlock()
	if run.Sleep(ctx, c.takes) != nil {
		return ctx.Err()
	}
	return err
}

func (c *coordinators) answerTo(q meta.Query) *meta.Answer {
	if c.answers != nil {
		return c.answers(q)
	}
	return objectOf(q)
}

// objectOf is an answer that tells to which query it is.
func objectOf(q meta.Query) *meta.Answer {
	if q.Object == nil {
		return &meta.Answer{}
	}
	return &meta.Answer{Object: &api.Object{Key: q.Object.Key}}
}

func readOf(key string) meta.Query { return meta.Query{Object: &meta.ObjectRef{Bucket: "b", Key: key}} }

func putOf(key string, bytes int) meta.Command {
	return meta.Command{Put: &meta.Put{Bucket: "b", Key: key, Inline: make([]byte, bytes)}}
}

// Whoever comes while a request is under way goes with the next, and gets the results of its own changes.
func TestChangesOfManyShareRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &coordinators{takes: time.Second}
		m := c.open()
		var group sync.WaitGroup
		ask := func(keys ...string) {
			group.Go(func() {
				var cmds []meta.Command
				for _, key := range keys {
					cmds = append(cmds, putOf(key, 10))
				}
				res, err := m.Apply(t.Context(), cmds...)
				if err != nil || len(res.Results) != len(keys) {
					t.Errorf("%v: %+v, %v", keys, res, err)
					return
				}
				for i, key := range keys {
					if res.Results[i].Object.Key != key {
						t.Errorf("%s got the result of %s", key, res.Results[i].Object.Key)
					}
				}
			})
			synctest.Wait()
		}
		ask("first")
		for i := range 50 {
			ask(fmt.Sprint("a", i), fmt.Sprint("b", i))
		}
		group.Wait()
		if len(c.batches) != 2 || c.batches[0] != 1 || c.batches[1] != 100 {
			t.Errorf("%v changes in the requests, want 1 and 100", c.batches)
		}
		if err := m.close(); err != nil {
			t.Error(err)
		}
	})
}

// What is said of many changes at once is about as long as they are.
func TestChangesWeighWhatTheyAre(t *testing.T) {
	parts := make([]meta.PartRef, api.MaxParts)
	for i := range parts {
		parts[i] = meta.PartRef{Number: i + 1, ETag: strings.Repeat("e", 32), Checksum: strings.Repeat("c", 44)}
	}
	for name, c := range map[string]meta.Command{
		"put":      putOf("k", 1<<20),
		"part":     {PutPart: &meta.PutPart{Manifest: make([]byte, 1<<20)}},
		"complete": {CompleteUpload: &meta.CompleteUpload{Parts: parts}},
	} {
		body, err := meta.Commands{Commands: []meta.Command{c}}.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if _, weight := weighChange([]meta.Command{c}); weight < len(body) || weight > 2*len(body) {
			t.Errorf("%s: %d, it has %d bytes", name, weight, len(body))
		}
	}
}

func TestABatchIsBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes, callers, each int
		want                 []int
	}{
		"by its changes":       {10, 3, maxBatchParts / 2, []int{maxBatchParts / 2, maxBatchParts}},
		"and one over them":    {10, 3, maxBatchParts/2 + 1, []int{maxBatchParts/2 + 1, maxBatchParts/2 + 1, maxBatchParts/2 + 1}},
		"by its bytes":         {maxBatchWeight, 3, 1, []int{1, 1, 1}},
		"but one may be large": {10, 2, 2 * maxBatchParts, []int{2 * maxBatchParts, 2 * maxBatchParts}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &coordinators{takes: time.Second}
				m := c.open()
				var group sync.WaitGroup
				for range tt.callers {
					group.Go(func() {
						var cmds []meta.Command
						for range tt.each {
							cmds = append(cmds, putOf("k", tt.bytes))
						}
						if _, err := m.Apply(t.Context(), cmds...); err != nil {
							t.Error(err)
						}
					})
					synctest.Wait()
				}
				group.Wait()
				if fmt.Sprint(c.batches) != fmt.Sprint(tt.want) {
					t.Errorf("requests of %v changes, want %v", c.batches, tt.want)
				}
				_ = m.close()
			})
		})
	}
}

func TestACallerNeedNotWaitForItsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := (&coordinators{takes: time.Hour}).open()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Apply(ctx, putOf("k", 1)); api.CodeOf(err) != api.CodeTimeout || errors.Is(err, meta.ErrNotSent) {
			t.Errorf("%v: it may still be made", err)
		}
		if err := m.close(); err != nil {
			t.Error(err)
		}
		if _, err := m.Apply(t.Context(), putOf("k", 1)); !errors.Is(err, meta.ErrNotSent) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestTooManyChangesAreSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := (&coordinators{takes: time.Second}).open()
		var group sync.WaitGroup
		var refused int
		var mu sync.Mutex
		for range 1 + maxGathered + 1 { // one is sent at once
			group.Go(func() {
				if _, err := m.Apply(t.Context(), putOf("k", 1)); err != nil {
					mu.Lock()
					defer mu.Unlock()
					if refused++; !errors.Is(err, meta.ErrNotSent) {
						t.Error(err)
					}
				}
			})
			synctest.Wait()
		}
		group.Wait()
		if refused != 1 {
			t.Errorf("%d were sent away, want 1", refused)
		}
		_ = m.close()
	})
}

// Reads that come while one is under way go with the next, and each gets its own answer, or why there is none.
func TestReadsOfManyShareRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &coordinators{takes: time.Second, answers: func(q meta.Query) *meta.Answer {
			if q.Object.Key == "none" {
				return &meta.Answer{Err: api.Errorf(api.CodeNotFound, "there is none")}
			}
			return objectOf(q)
		}}
		m := c.open()
		var group sync.WaitGroup
		read := func(key string, want api.Code) {
			group.Go(func() {
				a, err := m.Read(t.Context(), readOf(key))
				if api.CodeOf(err) != want || err == nil && a.Object.Key != key {
					t.Errorf("%s: %+v, %v", key, a, err)
				}
			})
			synctest.Wait()
		}
		read("first", "")
		for i := range maxBatchParts {
			read(fmt.Sprint(i), "")
		}
		read("none", api.CodeNotFound)
		group.Wait()
		if fmt.Sprint(c.batches) != fmt.Sprint([]int{1, maxBatchParts, 1}) || len(c.alone) > 0 {
			t.Errorf("requests of %v reads, %d alone", c.batches, len(c.alone))
		}
		_ = m.close()
	})
}

// What a coordinator has left, or cannot tell, is asked by itself, and so is what may take long.
func TestWhatGotNoAnswerIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, tt := range map[string]struct {
			q       meta.Query
			answer  *meta.Answer
			alone   bool
			batches int
		}{
			"it was left":      {readOf("k"), nil, true, 1},
			"it is not known":  {readOf("k"), &meta.Answer{Err: api.Errorf(api.CodeInternal, "the row is damaged")}, true, 1},
			"it was answered":  {readOf("k"), objectOf(readOf("k")), false, 1},
			"it may take long": {meta.Query{List: &meta.List{Bucket: "b"}}, nil, true, 0},
		} {
			c := &coordinators{answers: func(meta.Query) *meta.Answer { return tt.answer }}
			m := c.open()
			if a, err := m.Read(t.Context(), tt.q); err != nil || tt.q.Object != nil && a.Object.Key != "k" {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
			if len(c.batches) != tt.batches || (len(c.alone) == 1) != tt.alone {
				t.Errorf("%s: %d requests of several, %d of one", name, len(c.batches), len(c.alone))
			}
			_ = m.close()
		}
	})
}

// A read is never answered by a request that had begun before it, and one that nobody waits for is not sent.
func TestAReadIsSentAfterItWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written int
		c := &coordinators{takes: time.Second, answers: func(meta.Query) *meta.Answer { return &meta.Answer{Index: uint64(written)} }}
		m := c.open()
		var group sync.WaitGroup
		group.Go(func() { _, _ = m.Read(t.Context(), readOf("k")) })
		synctest.Wait()
		written = 1 // acknowledged while the first read is under way
		gone, cancel := context.WithCancel(t.Context())
		group.Go(func() {
			if _, err := m.Read(gone, readOf("k")); api.CodeOf(err) != api.CodeTimeout {
				t.Error(err)
			}
		})
		group.Go(func() {
			if a, err := m.Read(t.Context(), readOf("k")); err != nil || a.Index != 1 {
				t.Errorf("%+v, %v: the answer is older than what had been written", a, err)
			}
		})
		synctest.Wait()
		cancel()
		group.Wait()
		if fmt.Sprint(c.batches) != "[1 1]" {
			t.Errorf("requests of %v reads", c.batches)
		}
		_ = m.close()
	})
}

// What may have been done is not asked for twice; what is sure not to have been is, and so is a question.
func TestOnlyWhatIsSafeIsAskedAgain(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("refused")}
	broken := &net.OpError{Op: "read", Err: errors.New("reset")}
	unread := fmt.Errorf("the line ended: %w", link.ErrUnread)
	said := api.Errorf(api.CodeConflict, "it is there")
	unsure := api.Errorf(api.CodeUnavailable, "there is no leader")
	for name, tt := range map[string]struct {
		answers []error
		repeat  bool
		asked   int
		want    error
	}{
		"the first answers":                  {[]error{nil, nil}, false, 1, nil},
		"a refusal is an answer":             {[]error{said, nil}, true, 1, said},
		"one cannot be reached":              {[]error{dial, nil}, false, 2, nil},
		"one has hung up":                    {[]error{unread, nil}, false, 2, nil},
		"nobody can":                         {[]error{dial, dial}, false, 2, meta.ErrNotSent},
		"a change broke off":                 {[]error{broken, nil}, false, 1, broken},
		"a question broke off":               {[]error{broken, nil}, true, 2, nil},
		"a coordinator is not sure":          {[]error{unsure, nil}, false, 1, unsure},
		"nor does it know":                   {[]error{unsure, nil}, true, 2, nil},
		"nobody knows":                       {[]error{broken, dial}, true, 2, dial},
		"one is gone, then a change is lost": {[]error{dial, broken}, false, 2, broken},
		"there is no coordinator":            {nil, false, 0, meta.ErrNotSent},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			err := inTurn(t.Context(), len(tt.answers), tt.repeat, func(i int) error { asked++; return tt.answers[i] })
			if asked != tt.asked || !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("asked %d, %v", asked, err)
			}
			if sure := tt.want == meta.ErrNotSent; errors.Is(err, meta.ErrNotSent) != sure {
				t.Errorf("%v: nothing was sent: %v", err, sure)
			}
		})
	}
}
