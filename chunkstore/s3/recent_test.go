package s3

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
)

// An answer counts for 3 s from when it was asked for, however long it took: what is revoked opens nothing
// 5 s later, with 2 s for the answer.
func TestAnAnswerCountsForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, asked := newRecent[string, int](), 0
		get := func(err error) (int, error) {
			return r.get(t.Context(), "k", func(context.Context) (int, error) {
				asked++
				time.Sleep(2 * time.Second)
				return asked, err
			})
		}
		for _, want := range []struct {
			wait  time.Duration
			value int
		}{{0, 1}, {time.Second - 1, 1}, {1, 2}} {
			time.Sleep(want.wait)
			if got, err := get(nil); err != nil || got != want.value {
				t.Errorf("after %v more: %d, %v, want %d", want.wait, got, err, want.value)
			}
		}
	})
}

// A refusal counts for a second; that nobody could be asked counts for nothing.
func TestRefusalsCountForLess(t *testing.T) {
	for code, want := range map[api.Code]int{api.CodeUnauthorized: 2, api.CodeUnavailable: 4} {
		synctest.Test(t, func(t *testing.T) {
			r, asked := newRecent[string, int](), 0
			for _, wait := range []time.Duration{0, time.Second - 1, 1, 0} {
				time.Sleep(wait)
				_, err := r.get(t.Context(), "k", func(context.Context) (int, error) {
					asked++
					return 0, api.Errorf(code, "no")
				})
				if api.CodeOf(err) != code {
					t.Error(err)
				}
			}
			if asked != want {
				t.Errorf("%s: asked %d times, want %d", code, asked, want)
			}
		})
	}
}

// Many who ask at once share one question; when the one who asked goes away, another asks.
func TestOneQuestionForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, asked := newRecent[string, int](), 0
		first, cancel := context.WithCancel(t.Context())
		ask := func(ctx context.Context) (int, error) {
			asked++
			select {
			case <-ctx.Done():
				return 0, api.Errorf(api.CodeUnavailable, "%w", ctx.Err())
			case <-time.After(time.Second):
				return 7, nil
			}
		}
		gone := make(chan error, 1)
		go func() {
			_, err := r.get(first, "k", ask)
			gone <- err
		}()
		synctest.Wait()
		done := make(chan int, 10)
		for range 10 {
			go func() {
				v, _ := r.get(t.Context(), "k", ask)
				done <- v
			}()
		}
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for range 10 {
			if v := <-done; v != 7 {
				t.Errorf("%d", v)
			}
		}
		if asked != 2 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// That nobody answers is told to all who wait for it, at once and not one after the other.
func TestOneFailureForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := newRecent[string, int](), time.Now()
		done := make(chan error, 10)
		for range cap(done) {
			go func() {
				_, err := r.get(t.Context(), "k", func(context.Context) (int, error) {
					time.Sleep(5 * time.Second)
					return 0, api.Errorf(api.CodeUnavailable, "no coordinator answers")
				})
				done <- err
			}()
		}
		for range cap(done) {
			if err := <-done; api.CodeOf(err) != api.CodeUnavailable {
				t.Error(err)
			}
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the last waited for %v", took)
		}
	})
}

func TestAnswersAreBounded(t *testing.T) {
	r := newRecent[string, int]()
	for i := range 2*recentMost + 10 {
		if _, err := r.get(t.Context(), fmt.Sprint(i), func(context.Context) (int, error) { return i, nil }); err != nil {
			t.Fatal(err)
		}
		if len(r.entries) > recentMost {
			t.Fatalf("%d answers are kept", len(r.entries))
		}
	}
}
