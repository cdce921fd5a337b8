// Package run owns goroutines. Everything that runs in the background belongs to a Group, has a
// name, and has ended when the Group's Wait returns. A panic in one of them is turned into an error
// that carries the name and the stack, so that the role can stop cleanly and say why.
package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Group is a set of goroutines that end together. The zero value is not usable; see New.
type Group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	err    error
}

// New makes a group whose context ends with parent, on Stop, or when a member fails.
func New(parent context.Context) *Group {
	ctx, cancel := context.WithCancelCause(parent)
	return &Group{ctx: ctx, cancel: cancel}
}

// Context is the group's: it is done when the group is to end.
func (g *Group) Context() context.Context { return g.ctx }

// Go runs f under a name until it returns. An error other than context.Canceled ends the group.
func (g *Group) Go(name string, f func(ctx context.Context) error) {
	g.wg.Go(func() {
		err := protect(name, g.ctx, f)
		if err == nil || errors.Is(err, context.Canceled) {
			return
		}
		g.fail(fmt.Errorf("%s: %w", name, err))
	})
}

func protect(name string, ctx context.Context, f func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in %s: %v\n%s", name, p, debug.Stack())
		}
	}()
	return f(ctx)
}

func (g *Group) fail(err error) {
	g.mu.Lock()
	if g.err == nil {
		g.err = err
	}
	g.mu.Unlock()
	g.cancel(err)
}

// Stop asks every member to end.
func (g *Group) Stop() { g.cancel(context.Canceled) }

// Wait blocks until every member has ended and returns the first failure.
func (g *Group) Wait() error {
	g.wg.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Close is Stop, then Wait.
func (g *Group) Close() error {
	g.Stop()
	return g.Wait()
}

// Sleep waits for d, or returns ctx's error if that ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
