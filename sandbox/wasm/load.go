package wasm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/rewrite"
)

const (
	// maxUnused modules of maxUnusedBytes together stay loaded though no replica uses them, so that who
	// comes back soon finds its module in memory. What is dropped comes back from the disk cache.
	maxUnused      = 16
	maxUnusedBytes = 64 << 20
)

// module is the loaded code of an entry.
type module struct {
	*entry
	ready    chan struct{} // closed once loaded or err is set
	err      error
	compiled wazero.CompiledModule
	metered  *rewrite.Output // without its bytes
	bytes    int64
	refs     int
}

// acquire returns the spec's module with its code loaded. Whoever asks first loads; the others wait
// for it. What turns out to be damaged is compiled once more.
func (e *engine) acquire(ctx context.Context, spec sandbox.Spec) (*module, error) {
	m, err := e.obtain(ctx, spec)
	if errors.Is(err, errDamaged) {
		m, err = e.obtain(ctx, spec)
	}
	return m, err
}

func (e *engine) obtain(ctx context.Context, spec sandbox.Spec) (*module, error) {
	known, err := e.inspect(ctx, spec)
	if err != nil {
		return nil, err
	}
	m, first, err := e.claim(known)
	if err != nil {
		return nil, err
	}
	if first {
		m.err = e.load(m)
		close(m.ready)
		e.loading.Done()
	}
	select {
	case <-m.ready:
		err = m.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		e.release(m)
		return nil, err
	}
	return m, nil
}

// claim takes a reference to an entry's module; first tells that the caller has to load it.
func (e *engine) claim(known *entry) (m *module, first bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, false, errClosed()
	}
	m = e.loaded[known.digest]
	if m == nil {
		m, first = &module{entry: known, ready: make(chan struct{})}, true
		e.loaded[known.digest] = m
		e.loading.Add(1)
	}
	m.refs++
	e.unused = without(e.unused, m)
	return m, first, nil
}

func without(list []*module, m *module) []*module {
	kept := list[:0]
	for _, other := range list {
		if other != m {
			kept = append(kept, other)
		}
	}
	return kept
}

// load loads a module's code. What is missing or damaged is removed, so that it is made anew.
func (e *engine) load(m *module) error {
	d, code, conceal, err := e.open(m.digest)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: it is gone", errDamaged)
	}
	if err == nil {
		m.compiled, err = e.runtime.CompileModule(neverCompile, code)
		conceal()
		if err != nil {
			err = fmt.Errorf("%w: %v", errDamaged, err) //nolint:errorlint // it wraps the end of neverCompile, which is nobody's
		}
	}
	if err == nil {
		m.metered, m.bytes = &d.Metered, d.Module.Bytes+d.Code.Bytes+d.Metered.Unfolded
		e.cache.touch(m.digest)
		return nil
	}
	if errors.Is(err, errDamaged) {
		e.forget(m.digest)
		_ = e.discard(m.digest, err) // who compiles it anew finds out whether it has gone
	}
	return err
}

// open reads and checks all of an entry, and shows its code to wazero until conceal is called.
func (e *engine) open(digest string) (d *description, code []byte, conceal func(), err error) {
	if d, err = e.cache.describe(digest); err != nil {
		return nil, nil, nil, err
	}
	if code, err = e.cache.module(digest, d); err != nil {
		return nil, nil, nil, err
	}
	conceal, err = e.cache.expose(digest, d)
	return d, code, conceal, err
}

// neverCompile is a context with which wazero's compiler loads code that it finds, and else fails
// instead of compiling: with several workers it asks whether the context is over before each function.
// The interpreter has nothing to find and does not ask.
var neverCompile = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return experimental.WithCompilationWorkers(ctx, 2)
}()

// release gives a reference back. A module that nobody uses stays for a while (maxUnused); one that
// could not be loaded goes at once.
func (e *engine) release(m *module) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m.refs--
	switch {
	case e.closed:
	case m.err != nil:
		if e.loaded[m.digest] == m {
			delete(e.loaded, m.digest)
		}
	case m.refs == 0:
		e.unused = append(e.unused, m)
		e.shed()
	}
}

// shed drops the longest unused modules until the rest is within bounds; e.mu is held.
func (e *engine) shed() {
	var bytes int64
	for _, m := range e.unused {
		bytes += m.bytes
	}
	for len(e.unused) > maxUnused || bytes > maxUnusedBytes && len(e.unused) > 1 {
		oldest := e.unused[0]
		e.unused = e.unused[1:]
		bytes -= oldest.bytes
		delete(e.loaded, oldest.digest)
		_ = oldest.compiled.Close(context.Background()) // it cannot fail in a way that anybody could act on
	}
}
