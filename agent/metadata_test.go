package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// coordinators answers changes, each with the key that it puts, and keeps how they came.
type coordinators struct {
	mu      sync.Mutex
	batches []int
	takes   time.Duration
	err     error
}

func (c *coordinators) ask(ctx context.Context, path string, in, out any, repeat bool) error {
	if path != api.PathMetaApply || repeat {
		return errors.New("not a change that is asked for once")
	}
	cmds := in.(meta.Commands).Commands
	c.mu.Lock()
	c.batches = append(c.batches, len(cmds))
	err := c.err
	c.mu.Unlock()
	select {
	case <-time.After(c.takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, cmd := range cmds {
		out.(*meta.Results).Results = append(out.(*meta.Results).Results, meta.Result{Object: &api.Object{Key: cmd.Put.Key}})
	}
	return err
}

func putOf(key string, bytes int) meta.Command {
	return meta.Command{Put: &meta.Put{Bucket: "b", Key: key, Inline: make([]byte, bytes)}}
}

// Whoever comes while a request is under way goes with the next, and gets the results of its own changes.
func TestChangesOfManyShareRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &coordinators{takes: time.Second}
		m := newMetadata(c.ask)
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

func TestABatchIsBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes, callers, each int
		want                 []int
	}{
		"by its changes":       {10, 3, maxBatchCmds / 2, []int{maxBatchCmds / 2, maxBatchCmds}},
		"and one over them":    {10, 3, maxBatchCmds/2 + 1, []int{maxBatchCmds/2 + 1, maxBatchCmds/2 + 1, maxBatchCmds/2 + 1}},
		"by its bytes":         {maxBatchBytes, 3, 1, []int{1, 1, 1}},
		"but one may be large": {10, 2, 2 * maxBatchCmds, []int{2 * maxBatchCmds, 2 * maxBatchCmds}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &coordinators{takes: time.Second}
				m := newMetadata(c.ask)
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
		m := newMetadata((&coordinators{takes: time.Hour}).ask)
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
		m := newMetadata((&coordinators{takes: time.Second}).ask)
		var group sync.WaitGroup
		var refused int
		var mu sync.Mutex
		for range 1 + maxMetaWaiting + 1 { // one is sent at once
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

// What may have been done is not asked for twice; what is sure not to have been is, and so is a question.
func TestOnlyWhatIsSafeIsAskedAgain(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("refused")}
	broken := &net.OpError{Op: "read", Err: errors.New("reset")}
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
