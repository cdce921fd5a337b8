// Package wasm is the sandbox.Driver for WebAssembly modules, on wazero.
//
// A module is compiled once, by a child process (compile.go), and kept on disk (cache.go); its imports and
// exports say how it is driven (inspect.go). Its code is loaded once for all its replicas (engine.go). A
// replica is then one of three things: a server, which calls the guest for each HTTP request (server.go;
// by the cl interface, clhost.go, or by CGI, wagi.go), listening, whose guests accept connections
// themselves (listener.go), or a process, which runs the guest's _start once (process.go).
//
// Guests see their manifest's arguments and environment, clocks, random numbers, standard streams and the
// folders that their spec mounts (sandbox/wasi). They reach what their manifest names by HTTP (fetchhost.go),
// and the buckets that it grants (storehost.go), and nothing else.
package wasm

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync"

	"github.com/rs/zerolog"
	"golang.org/x/sys/cpu"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/egress"
	"github.com/cloudless/cloudless/sandbox/linear"
)

// Config sets a driver up.
type Config struct {
	CacheDir  string // compiled modules are kept here, readable by the owner only
	Log       zerolog.Logger
	MaxMemory api.Bytes      // the most that one replica may ask for; 0: no bound but wasm's own 4 GiB
	Network   egress.Network // through which guests reach what their manifests allow
}

// Driver implements sandbox.Driver.
type Driver struct {
	config Config
	engine *engine
	arena  *linear.Arena
	group  *run.Group
	mu     sync.Mutex
	closed bool
	live   map[string]replica // by id
	awake  awake
}

var (
	_ sandbox.Driver  = (*Driver)(nil)
	_ sandbox.Trimmer = (*Driver)(nil)
)

// replica is a handle as the driver sees it.
type replica interface {
	sandbox.Handle
	begin() // once it is on the driver's list
	abort() // ends it by force, without waiting
	drop()  // instead of begin: gives back what it holds
	gone() error
}

// New makes a driver.
func New(c Config) (*Driver, error) {
	e, err := newEngine(c.CacheDir, c.Log)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		config: c, engine: e, arena: linear.NewArena(math.MaxUint64), group: run.New(context.Background()),
		live: map[string]replica{}, awake: awake{set: map[resting]bool{}},
	}
	d.group.Go("rest idle wasm replicas", d.awake.tend)
	return d, nil
}

// Variant implements sandbox.Driver.
func (d *Driver) Variant() api.Variant { return api.VariantWasm }

// Info implements sandbox.Driver.
func (d *Driver) Info(context.Context) sandbox.Info {
	return sandbox.Info{Available: true, Engine: engineName()}
}

// engineName is the engine that wazero chooses on this machine, by the same rule.
func engineName() string {
	switch runtime.GOARCH {
	case "arm64":
		return "compiler"
	case "amd64":
		if cpu.X86.HasSSE41 {
			return "compiler"
		}
	}
	return "interpreter"
}

// Prepare implements sandbox.Driver: it has the module compiled and checks how it is to be driven.
func (d *Driver) Prepare(ctx context.Context, spec sandbox.Spec) error {
	_, _, err := d.inspect(ctx, spec)
	return err
}

// inspect tells what is known of the spec's module, and how to drive it if it may be. It loads no code.
func (d *Driver) inspect(ctx context.Context, spec sandbox.Spec) (*entry, drive, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	pages, err := d.pages(spec)
	if err != nil {
		return nil, "", err
	}
	known, err := d.engine.inspect(ctx, spec)
	if err != nil {
		return nil, "", err
	}
	if err := known.fits(pages); err != nil {
		return nil, "", err
	}
	if err := known.granted(&spec); err != nil {
		return nil, "", err
	}
	how, err := driveOf(&known.facts, spec.Wasm)
	return known, how, err
}

// pages is the spec's memory limit in wasm pages.
func (d *Driver) pages(spec sandbox.Spec) (uint32, error) {
	if spec.Wasm == nil {
		return 0, api.Errorf(api.CodeInvalid, "the spec of replica %s has no wasm part", spec.ID)
	}
	limit := spec.Memory
	if limit == 0 {
		limit = api.DefaultWasmMemory
	}
	if limit < pageBytes {
		return 0, api.Errorf(api.CodeInvalid, "a memory limit of %s is less than one wasm page (64Ki)", limit)
	}
	if d.config.MaxMemory > 0 && limit > d.config.MaxMemory {
		return 0, api.Errorf(api.CodeInvalid, "a memory limit of %s is over this node's bound of %s for one wasm replica", limit, d.config.MaxMemory)
	}
	return pagesOf(limit), nil
}

// pagesOf is a memory limit in wasm pages.
func pagesOf(limit api.Bytes) uint32 { return uint32(min(limit/pageBytes, maxPages)) }

// Start implements sandbox.Driver.
func (d *Driver) Start(ctx context.Context, spec sandbox.Spec) (sandbox.Handle, error) {
	known, how, err := d.inspect(ctx, spec)
	if err != nil {
		return nil, err
	}
	b, err := newBase(d, known, spec)
	if err != nil {
		return nil, err
	}
	r, err := d.build(ctx, b, how)
	if err != nil {
		return nil, err
	}
	if err := d.admit(r); err != nil {
		r.drop()
		return nil, err
	}
	d.config.Log.Debug().Str("replica", spec.ID).Str("workload", spec.Workload.String()).Str("drive", string(how)).Msg("wasm replica started")
	return r, nil
}

// build makes the replica and shows that its module can be instantiated.
func (d *Driver) build(ctx context.Context, b *base, how drive) (r replica, err error) {
	switch how {
	case driveProcess:
		r, err = newProcess(ctx, b)
	case driveListener:
		r, err = newListening(ctx, b)
	default:
		r, err = newServer(ctx, b, how)
	}
	if err != nil {
		b.abandon()
		return nil, err
	}
	return r, nil
}

func (d *Driver) admit(r replica) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return api.Errorf(api.CodeUnavailable, "the wasm driver is closed")
	}
	if d.live[r.ID()] != nil {
		return api.Errorf(api.CodeConflict, "replica %s runs already", r.ID())
	}
	d.live[r.ID()] = r
	r.begin()
	return nil
}

// forget takes an ended replica off the list, unless its id is another's by now.
func (d *Driver) forget(b *base) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.live[b.ID()]; r != nil && r.Done() == b.Done() {
		delete(d.live, b.ID())
	}
}

// Adopt implements sandbox.Driver: a wasm replica lives in the agent's process and ends with it.
func (d *Driver) Adopt(_ context.Context, spec sandbox.Spec) (sandbox.Handle, error) {
	return nil, api.Errorf(api.CodeNotFound, "replica %s is gone: a wasm replica ends with the agent's process", spec.ID)
}

// Clean implements sandbox.Driver: an earlier process leaves nothing of a wasm replica behind.
func (d *Driver) Clean(context.Context, map[string]bool) error { return nil }

// Close implements sandbox.Driver: it ends every replica.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	ends := make([]replica, 0, len(d.live))
	for _, r := range d.live {
		ends = append(ends, r)
	}
	d.mu.Unlock()
	for _, r := range ends {
		r.abort()
	}
	errs := make([]error, 0, len(ends)+1)
	for _, r := range ends {
		errs = append(errs, r.gone())
	}
	return errors.Join(append(errs, d.group.Close(), d.engine.close(), d.arena.Close())...)
}
