package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/rewrite"
)

const (
	pageBytes = 64 << 10
	maxPages  = 65536 // 4 GiB, what 32 bits can address

	// maxUnused modules stay compiled though no replica uses them, so that a restart, or a Start after
	// Prepare, finds its module in memory. What is dropped comes back from the disk cache.
	maxUnused = 16
)

// engine compiles modules and keeps them while replicas use them.
//
// wazero sets the memory limit for a whole runtime, so there is one runtime for each limit in use (a
// memory class). They share compiled code through the cache.
type engine struct {
	dir      string
	cache    wazero.CompilationCache
	mu       sync.Mutex
	closed   bool
	runtimes map[uint32]*memoryClass // by limit in pages
	modules  map[moduleKey]*module
	unused   []*module // least recently used first
}

type memoryClass struct {
	wazero.Runtime
	modules int // compiled in it
}

type moduleKey struct {
	digest string
	pages  uint32
}

// module is a compiled module of one memory class.
type module struct {
	key      moduleKey
	ready    chan struct{} // closed once compiled or err is set
	err      error
	class    *memoryClass
	compiled wazero.CompiledModule
	metered  *rewrite.Output // without its bytes
	refs     int
	tried    trials
}

func newEngine(dir string) (*engine, error) {
	if err := ownerOnly(dir); err != nil {
		return nil, fmt.Errorf("make the cache folder of compiled modules: %w", err)
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open the cache of compiled modules: %w", err)
	}
	return &engine{dir: dir, cache: cache, runtimes: map[uint32]*memoryClass{}, modules: map[moduleKey]*module{}}, nil
}

// acquire returns the spec's module, compiled for a limit of so many pages. Whoever asks first
// compiles; the others wait for it.
func (e *engine) acquire(ctx context.Context, spec sandbox.Spec, pages uint32) (*module, error) {
	key := moduleKey{spec.Digest, pages}
	var code []byte
	if key.digest == "" { // not an artifact of the cluster's store: the content is the name
		var err error
		if code, err = readModule(spec.Artifact); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(code)
		key.digest = "sha256:" + hex.EncodeToString(sum[:])
	}
	m, first, err := e.claim(ctx, key)
	if err != nil {
		return nil, err
	}
	if first {
		e.fill(ctx, m, spec.Artifact, code)
	}
	select {
	case <-m.ready:
	case <-ctx.Done():
		e.release(m)
		return nil, ctx.Err()
	}
	if m.err != nil {
		e.release(m)
		return nil, m.err
	}
	return m, nil
}

// claim takes a reference to the module of key; first tells that the caller has to compile it.
func (e *engine) claim(ctx context.Context, key moduleKey) (m *module, first bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, false, api.Errorf(api.CodeUnavailable, "the wasm driver is closed")
	}
	m = e.modules[key]
	if m == nil {
		class, err := e.runtime(ctx, key.pages)
		if err != nil {
			return nil, false, err
		}
		class.modules++
		m, first = &module{key: key, ready: make(chan struct{}), class: class}, true
		e.modules[key] = m
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

// runtime returns the runtime of a memory class, with its host modules; e.mu is held.
func (e *engine) runtime(ctx context.Context, pages uint32) (*memoryClass, error) {
	if c := e.runtimes[pages]; c != nil {
		return c, nil
	}
	config := wazero.NewRuntimeConfig().WithMemoryLimitPages(pages).WithCompilationCache(e.cache)
	ctx = context.WithoutCancel(ctx)
	r := wazero.NewRuntimeWithConfig(ctx, config)
	_, err := wasi_snapshot_preview1.Instantiate(ctx, r)
	if err == nil {
		err = exportCl(ctx, r)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a wasm runtime: %w", err), r.Close(ctx))
	}
	c := &memoryClass{Runtime: r}
	e.runtimes[pages] = c
	return c, nil
}

// fill compiles m from the file at path, or from code if that is read already.
func (e *engine) fill(ctx context.Context, m *module, path string, code []byte) {
	defer close(m.ready)
	if code == nil {
		if code, m.err = readModule(path); m.err != nil {
			return
		}
	}
	if m.err = checkHeader(code); m.err != nil {
		return
	}
	if m.metered, m.err = meterCode(code); m.err != nil {
		return
	}
	m.compiled, m.err = e.compile(context.WithoutCancel(ctx), m.class, m.metered.Module)
	m.metered.Module = nil
	if m.err == nil {
		m.err = checkImports(m.class, m.compiled)
	}
}

// compile compiles, once more without the cache's files when one of them is damaged.
func (e *engine) compile(ctx context.Context, class *memoryClass, code []byte) (wazero.CompiledModule, error) {
	compiled, err := class.CompileModule(ctx, code)
	if err != nil && strings.Contains(err.Error(), "compilationcache:") {
		if err := e.emptyCache(); err != nil {
			return nil, fmt.Errorf("empty the damaged cache of compiled modules: %w", err)
		}
		compiled, err = class.CompileModule(ctx, code)
	}
	if err != nil {
		return nil, compileError(err)
	}
	return compiled, nil
}

func (e *engine) emptyCache() error {
	return filepath.WalkDir(e.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return os.Remove(path) //nolint:gosec // the folder is ours alone, mode 0700
	})
}

// release gives a reference back. A module that nobody uses stays for a while (maxUnused); one that
// did not compile goes at once.
func (e *engine) release(m *module) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m.refs--
	if m.refs > 0 || e.closed {
		return
	}
	if m.err != nil {
		e.drop(m)
		return
	}
	e.unused = append(e.unused, m)
	if len(e.unused) > maxUnused {
		oldest := e.unused[0]
		e.unused = e.unused[1:]
		e.drop(oldest)
	}
}

// drop forgets a module, and its runtime with the last module of that; e.mu is held. Closing cannot
// fail in a way that anybody could act on.
func (e *engine) drop(m *module) {
	ctx := context.Background()
	delete(e.modules, m.key)
	if m.compiled != nil {
		_ = m.compiled.Close(ctx)
	}
	if m.class.modules--; m.class.modules == 0 {
		delete(e.runtimes, m.key.pages)
		_ = m.class.Close(ctx)
	}
}

func (e *engine) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	ctx := context.Background()
	var errs []error
	for _, c := range e.runtimes {
		errs = append(errs, c.Close(ctx))
	}
	return errors.Join(append(errs, e.cache.Close(ctx))...)
}
