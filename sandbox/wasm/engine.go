package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/rs/zerolog"
	"github.com/tetratelabs/wazero"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/rewrite"
)

const (
	pageBytes = 64 << 10
	maxPages  = 65536 // 4 GiB, what 32 bits can address

	// maxRefused is the number of modules of which it is remembered that they cannot be compiled, so that
	// a retry costs no child.
	maxRefused = 1024
)

// engine knows modules, and loads their code while replicas use it.
//
// A module is known once its description has been read from the cache; when it is not there, a child
// compiles it first (compile.go). That is all that a deployed module costs until it is called. The
// code is loaded by acquire, for all replicas of the module together, and never made in this process.
//
// There is one runtime. wazero limits the memory of all instances of a runtime alike, so that limit
// is left at its maximum: each replica's own is kept by its instances' allocator.
type engine struct {
	cache    *cache
	compiler *compiler
	log      zerolog.Logger
	runtime  wazero.Runtime
	code     wazero.CompilationCache
	host     hostFunctions
	group    *run.Group     // of those who inspect
	loading  sync.WaitGroup // those who load

	mu      sync.Mutex
	closed  bool
	known   map[string]*entry // by digest
	making  map[string]*making
	refused map[string]error // by digest: those that will never compile
	loaded  map[string]*module
	unused  []*module // least recently used first
}

// entry is a module that is known here.
type entry struct {
	digest string
	facts
	tried trials
}

// making is the inspection of a module that was not known, for all who wait for it.
type making struct {
	waiting int
	cancel  context.CancelFunc
	done    chan struct{} // closed once entry or err is set
	entry   *entry
	err     error
}

func newEngine(dir string, log zerolog.Logger) (e *engine, err error) {
	e = &engine{
		compiler: newCompiler(log), log: log, group: run.New(context.Background()),
		known: map[string]*entry{}, making: map[string]*making{}, refused: map[string]error{}, loaded: map[string]*module{},
	}
	if e.cache, err = openCache(dir); err != nil {
		return nil, fmt.Errorf("open the cache of compiled modules: %w", err)
	}
	ctx := context.Background()
	if e.cache.kind, err = engineKind(ctx, filepath.Join(e.cache.work, "kind")); err == nil {
		e.runtime, e.code, err = newRuntime(ctx, filepath.Join(e.cache.work, loadFolder))
	}
	if err != nil {
		return nil, errors.Join(err, e.cache.close())
	}
	e.host = hostFunctionsOf(e.runtime)
	return e, nil
}

// newRuntime makes a runtime with its host modules, whose compiled code lies in dir.
func newRuntime(ctx context.Context, dir string) (wazero.Runtime, wazero.CompilationCache, error) {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open the engine's folder of code: %w", err)
	}
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCompilationCache(cache))
	err = exportWASI(ctx, r)
	if err == nil {
		err = exportCl(ctx, r)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make a wasm runtime: %w", err), r.Close(ctx), cache.Close(ctx))
	}
	return r, cache, nil
}

// engineKind names what makes code of this process useful to another: the engine's version, the
// architecture, the features of the CPU, and what this package has added to the module. The engine tells
// its part by where it keeps the code of an empty module.
func engineKind(ctx context.Context, dir string) (string, error) {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return "", err
	}
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCompilationCache(cache))
	_, err = r.CompileModule(ctx, append(magic[:len(magic):len(magic)], versionModule...))
	if err := errors.Join(err, r.Close(ctx), cache.Close(ctx)); err != nil {
		return "", fmt.Errorf("compile an empty module: %w", err)
	}
	file, err := engineFile(dir)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s rewrite %d stack %d format %d", engineName(), file, rewrite.Version, stackBytes, descriptionFormat))
	return hex.EncodeToString(sum[:8]), os.RemoveAll(dir)
}

// engineFile is the path in dir of the one file of code that the engine has written there; the
// interpreter writes none.
func engineFile(dir string) (string, error) {
	found, err := fs.Glob(os.DirFS(dir), "wazero-*/*")
	switch {
	case err != nil:
		return "", err
	case len(found) == 0 && engineName() == "interpreter":
		return "", nil
	case len(found) != 1:
		return "", fmt.Errorf("the engine wrote %d files of code for one module", len(found))
	}
	return found[0], nil
}

// inspect tells what is known of the spec's module, having it compiled if it was never seen. It loads
// no code.
func (e *engine) inspect(ctx context.Context, spec sandbox.Spec) (*entry, error) {
	digest, err := digestOf(spec)
	if err != nil {
		return nil, err
	}
	known, m, err := e.join(digest, spec.Artifact)
	if known != nil || err != nil {
		return known, err
	}
	defer e.leave(digest, m)
	select {
	case <-m.done:
		return m.entry, m.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// digestOf is the name of the spec's module. One that is no artifact of the cluster's store has only
// its content for a name.
func digestOf(spec sandbox.Spec) (string, error) {
	if spec.Digest != "" {
		return spec.Digest, nil
	}
	f, err := openModule(spec.Artifact)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, sum, err := sumOfFile(f)
	return "sha256:" + sum, err
}

// join finds what is known, or takes part in finding it out. Whoever asks first begins.
func (e *engine) join(digest, path string) (*entry, *making, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, nil, errClosed()
	}
	if known := e.known[digest]; known != nil {
		return known, nil, nil
	}
	if err := e.refused[digest]; err != nil {
		return nil, nil, err
	}
	m := e.making[digest]
	if m == nil {
		ctx, cancel := context.WithCancel(e.group.Context())
		m = &making{cancel: cancel, done: make(chan struct{})}
		e.making[digest] = m
		e.group.Go("inspect wasm module", func(context.Context) error {
			defer cancel()
			known, err := e.find(ctx, digest, path)
			e.found(digest, m, known, err)
			return nil
		})
	}
	m.waiting++
	return nil, m, nil
}

func errClosed() error { return api.Errorf(api.CodeUnavailable, "the wasm driver is closed") }

// leave ends the making when nobody waits for it any more.
func (e *engine) leave(digest string, m *making) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m.waiting--; m.waiting > 0 {
		return
	}
	m.cancel()
	if e.making[digest] == m {
		delete(e.making, digest)
	}
}

// found keeps what came out, and tells all who wait.
func (e *engine) found(digest string, m *making, known *entry, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err == nil:
		e.known[digest] = known
	case e.closed:
		err = errClosed()
	case api.CodeOf(err) == api.CodeInvalid:
		if len(e.refused) >= maxRefused {
			clear(e.refused)
		}
		e.refused[digest] = err
	}
	if e.making[digest] == m {
		delete(e.making, digest)
	}
	m.entry, m.err = known, err
	close(m.done)
}

// find reads a module's description, or has it made.
func (e *engine) find(ctx context.Context, digest, path string) (*entry, error) {
	d, err := e.cache.describe(digest)
	if errors.Is(err, errDamaged) {
		err = e.discard(digest, err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		d, err = e.make(ctx, digest, path)
	}
	if err != nil {
		return nil, err
	}
	if err := e.host.check(d.Imports); err != nil {
		return nil, err
	}
	return &entry{digest: digest, facts: d.Facts, tried: trials{cache: e.cache, digest: digest}}, nil
}

// discard removes what cannot be trusted; after that it does not exist.
func (e *engine) discard(digest string, why error) error {
	e.log.Warn().Err(why).Str("module", digest).Msg("a compiled module is thrown away and made anew")
	if err := e.cache.remove(filepath.Base(e.cache.entry(digest))); err != nil {
		return fmt.Errorf("remove a damaged module from the cache: %w", err)
	}
	return fs.ErrNotExist
}

// make has a child compile a module, and publishes what it made.
func (e *engine) make(ctx context.Context, digest, path string) (*description, error) {
	scratch, err := e.cache.scratch()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	if err := e.compiler.compile(ctx, path, digest, scratch); err != nil {
		return nil, err
	}
	if err := e.cache.publish(scratch, digest); err != nil {
		return nil, fmt.Errorf("keep a compiled module: %w", err)
	}
	return e.cache.describe(digest)
}

// forget makes a module unknown, as if it had never been seen.
func (e *engine) forget(digest string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.known, digest)
}

// forgetOthers forgets the modules that are neither loaded nor to be kept.
func (e *engine) forgetOthers(keep map[string]bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.DeleteFunc(e.known, func(digest string, _ *entry) bool { return !keep[digest] && e.loaded[digest] == nil })
}

// busy tells whether a module is loaded, or being found out about.
func (e *engine) busy(digest string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.loaded[digest] != nil || e.making[digest] != nil
}

func (e *engine) close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	e.mu.Unlock()
	err := e.group.Close()
	e.loading.Wait()
	ctx := context.Background()
	return errors.Join(err, e.runtime.Close(ctx), e.code.Close(ctx), e.cache.close())
}
