package wasm

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	wapi "github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// initTimeout bounds a module's start section and _initialize.
const initTimeout = 30 * time.Second

// The exit codes of guests that do not exit by themselves, as a shell would tell them.
const (
	codeForced = 128 + 9 // SIGKILL
	codeTrap   = 128 + 6 // SIGABRT
)

// base is what both kinds of replica share, and most of sandbox.Handle.
type base struct {
	driver *Driver
	module *module
	spec   sandbox.Spec
	config wazero.ModuleConfig // with environment and clocks, without standard streams
	log    *sink
	memory *budget
	meter  meter

	// ctx ends when the replica is ended by force.
	ctx    context.Context
	cancel context.CancelFunc

	done chan struct{}
	ends sync.Once
	exit sandbox.Exit
}

func newBase(d *Driver, m *module, spec sandbox.Spec) *base {
	ctx, cancel := context.WithCancel(context.Background())
	return &base{
		driver: d, module: m, spec: spec, config: baseConfig(spec),
		log: newSink(spec.Log), memory: &budget{limit: uint64(pagesOf(cmp.Or(spec.Memory, api.DefaultWasmMemory))) * pageBytes},
		ctx: ctx, cancel: cancel, done: make(chan struct{}),
	}
}

// baseConfig gives a guest its arguments, its manifest's environment, real clocks and random numbers.
// The module's name is empty so that it can be instantiated many times.
func baseConfig(spec sandbox.Spec) wazero.ModuleConfig {
	c := wazero.NewModuleConfig().WithName("").WithStartFunctions().
		WithSysWalltime().WithSysNanotime().WithRandSource(rand.Reader).
		WithArgs(append([]string{spec.Workload.Name}, spec.Wasm.Args...)...)
	for _, name := range envNames(spec.Env) {
		c = c.WithEnv(name, spec.Env[name])
	}
	return c
}

func envNames(env map[string]string) []string {
	names := make([]string, 0, len(env))
	for name := range env {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// instantiate makes an instance. A bad initial value in the module may panic in wazero: that is the
// module's fault and an error.
func (b *base) instantiate(ctx context.Context, config wazero.ModuleConfig, mem *account) (instance wapi.Module, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		if err != nil {
			mem.Free()
		}
	}()
	return b.driver.engine.runtime.InstantiateModule(experimental.WithMemoryAllocator(ctx, mem), b.module.compiled, config)
}

// trials remembers with which memory, arguments and environments a module has been instantiated well, so
// that the thousandth replica of it need not show it again.
//
// They are kept with the module's entry, so that an agent that starts again need not show it either.
type trials struct {
	cache  *cache
	digest string
	mu     sync.Mutex
	read   bool
	good   [][sha256.Size]byte
}

const maxTrials = 64

// once runs f unless it succeeded before for the same spec.
func (t *trials) once(spec sandbox.Spec, how drive, f func() error) error {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %q", how, spec.Memory, spec.Wasm.Args)
	for _, name := range envNames(spec.Env) {
		fmt.Fprintf(h, " %q=%q", name, spec.Env[name])
	}
	key := [sha256.Size]byte(h.Sum(nil))
	if t.known(key) {
		return nil
	}
	if err := f(); err != nil {
		return err
	}
	t.learn(key)
	return nil
}

func (t *trials) known(key [sha256.Size]byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.read {
		t.good, t.read = t.cache.tried(t.digest), true
	}
	return slices.Contains(t.good, key)
}

func (t *trials) learn(key [sha256.Size]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.good) >= maxTrials {
		t.good = nil
	}
	t.good = append(t.good, key)
	t.cache.keepTried(t.digest, t.good)
}

// startError tells why a guest could not be set up. What the guest did is the module's fault.
func startError(ctx context.Context, err error) error {
	if ctx.Err() != nil && context.Cause(ctx) != errInit {
		return ctx.Err()
	}
	if context.Cause(ctx) == errInit {
		return invalid("the module was not initialized after %s", initTimeout)
	}
	return invalid("the module cannot be instantiated: %s", failure(err))
}

var errInit = errors.New("initialization took too long")

// initContext bounds the setting up of an instance.
func initContext(parent context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(parent, initTimeout, errInit)
}

// exitCode tells the code of a guest that called proc_exit, or whose _start returned.
func exitCode(err error) (code int, ok bool) {
	var exit *sys.ExitError
	switch {
	case err == nil:
		return 0, true
	case errors.As(err, &exit):
		return int(exit.ExitCode()), true
	}
	return 0, false
}

// failure is a guest's failure in one line: "trap: unreachable in main.handle", "exited with code 3".
func failure(err error) string {
	if code, ok := exitCode(err); ok {
		return fmt.Sprintf("exited with code %d", code)
	}
	text, trace, trapped := strings.Cut(err.Error(), "\nwasm stack trace:")
	text = strings.TrimSuffix(text, " (recovered by wazero)")
	text, _, _ = strings.Cut(text, "\n")
	if i := strings.Index(text, "wasm error: "); i >= 0 {
		text = text[i+len("wasm error: "):]
	}
	if !trapped {
		return text
	}
	frame, _, _ := strings.Cut(strings.TrimSpace(trace), "\n")
	if frame != "" {
		text += " in " + frame
	}
	return "trap: " + text
}

// finish frees the instances, records how the replica ended and gives back what it held. Only the
// first call counts.
func (b *base) finish(exit sandbox.Exit, free func()) {
	b.ends.Do(func() {
		b.cancel()
		free()
		exit.At = time.Now()
		b.exit = exit
		b.log.Close()
		b.driver.forget(b)
		b.driver.engine.release(b.module)
		close(b.done)
	})
}

// gone waits for the end of a replica that was ended by force. A guest sees it at its next tick; what
// the host does for it ends with its context.
func (b *base) gone() error {
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-b.done:
		return nil
	case <-timer.C:
		return api.Errorf(api.CodeTimeout, "replica %s still runs %s after it was to end", b.ID(), killWait)
	}
}

// killWait bounds the wait for a guest that was ended by force.
const killWait = 5 * time.Second

// guest is what host functions find in the context of a call: whose call it is, and the request that
// is being handled, if one is.
type guest struct {
	*base
	request *exchange
}

type guestKey struct{}

// guestContext makes the context of calls into the replica's guest.
func (b *base) guestContext(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, guestKey{}, guest{b, x})
}

// ID implements sandbox.Handle.
func (b *base) ID() string { return b.spec.ID }

// Done implements sandbox.Handle.
func (b *base) Done() <-chan struct{} { return b.done }

// Exit implements sandbox.Handle.
func (b *base) Exit() sandbox.Exit { return b.exit }

// Exec implements sandbox.Handle: a module is not a machine with other programs on it.
func (b *base) Exec(context.Context, sandbox.ExecRequest) (int, error) {
	return 0, api.Errorf(api.CodeInvalid, "nothing can be executed in a wasm replica: it is one module, without files or other programs").
		WithHint("read its output with cloudless logs")
}

// Usage implements sandbox.Handle. CPUTime is the time spent in the guest's code and in calls that
// do not wait.
func (b *base) Usage(context.Context) (sandbox.Usage, error) {
	return sandbox.Usage{CPUTime: b.meter.total(), Memory: int64(b.memory.inUse())}, nil
}
