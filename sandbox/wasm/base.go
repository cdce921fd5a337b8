package wasm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/buckets"
	"github.com/cloudless/cloudless/sandbox/egress"
	"github.com/cloudless/cloudless/sandbox/linear"
	"github.com/cloudless/cloudless/sandbox/wasi"
)

// initTimeout bounds a module's start section and _initialize.
const initTimeout = 30 * time.Second

// The exit codes of guests that do not exit by themselves, as a shell would tell them.
const (
	codeForced = 128 + 9 // SIGKILL
	codeTrap   = 128 + 6 // SIGABRT
)

// base is what all kinds of replica share, and most of sandbox.Handle.
type base struct {
	sandbox.Ending
	driver  *Driver
	known   *entry // the module
	spec    sandbox.Spec
	env     []string // NAME=value of the manifest, in order
	mounts  []wasi.Mount
	log     *sink
	budget  *linear.Budget
	usage   usage
	quota   *quota
	egress  *egress.Client  // nil where the manifest allows nothing
	buckets *buckets.Access // nil where it grants none

	// ctx ends when the replica is ended by force.
	ctx    context.Context
	cancel context.CancelFunc

	ends sync.Once
}

func newBase(d *Driver, known *entry, spec sandbox.Spec) (*base, error) {
	ctx, cancel := context.WithCancel(context.Background())
	b := &base{
		driver: d, known: known, spec: spec, env: environ(spec.Env),
		log: newSink(spec.Log), budget: linear.NewBudget(uint64(pagesOf(cmp.Or(spec.Memory, api.DefaultWasmMemory))) * pageBytes), quota: newQuota(int64(spec.CPU)),
		ctx: ctx, cancel: cancel,
	}
	if err := errors.Join(b.openEgress(), b.openBuckets(), b.openVolumes()); err != nil {
		b.abandon()
		return nil, err
	}
	return b, nil
}

// openVolumes opens the replica's volumes, which its instances share.
func (b *base) openVolumes() error {
	for _, m := range b.spec.Mounts {
		v, err := wasi.OpenVolume(m.Source, volumeLimits(m))
		if err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.Source, m.Target, err)
		}
		b.mounts = append(b.mounts, wasi.Mount{Guest: m.Target, Volume: v, ReadOnly: m.ReadOnly})
	}
	return nil
}

// volumeLimits bounds what the guest may put into a mount: bytes as its limit says, and as many names as
// its smallest files would have.
func volumeLimits(m sandbox.Mount) wasi.VolumeLimits {
	if m.ReadOnly || m.Limit == 0 {
		return wasi.VolumeLimits{}
	}
	return wasi.VolumeLimits{Bytes: int64(m.Limit), Names: max(int64(m.Limit)/bytesPerName, minNames)}
}

// What a name costs at least on a disk, and what a small volume may have of them.
const (
	bytesPerName = 4 << 10
	minNames     = 1_024
)

// abandon gives back what a replica holds that has not started.
func (b *base) abandon() {
	b.cancel()
	b.closeShared()
}

// closeShared gives back what the replica's instances shared.
func (b *base) closeShared() {
	b.closeEgress()
	b.closeBuckets()
	for _, m := range b.mounts {
		_ = m.Volume.Close() // nothing was written through it that closing could lose
	}
}

// cost is what all instances have used so far.
func (b *base) cost() sandbox.Cost {
	sum, _ := b.usage.now()
	return sum
}

// args are a guest's arguments, the first being its name.
func (b *base) args() []string { return append([]string{b.spec.Workload.Name}, b.spec.Wasm.Args...) }

func environ(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
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
	for _, entry := range environ(spec.Env) {
		fmt.Fprintf(h, " %q", entry)
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

// exitCode tells the code of a guest that called proc_exit, or that returned.
func exitCode(err error) (code int, ok bool) {
	if err == nil {
		return 0, true
	}
	var exit *wasi.Exit // on the heap, for which most calls need not pay
	if errors.As(err, &exit) {
		return int(exit.Code), true
	}
	return 0, false
}

// exitOf tells how a guest ended whose _start was to run on.
func (b *base) exitOf(err error) sandbox.Exit {
	if b.ctx.Err() != nil {
		return sandbox.Exit{Code: codeForced, Reason: "stopped: a wasm guest has no signals, so it was ended by force"}
	}
	if code, ok := exitCode(err); ok {
		return sandbox.Exit{Code: code, Reason: fmt.Sprintf("exited with code %d", code)}
	}
	reason := failure(err)
	b.log.printf("cloudless: %s", reason)
	return sandbox.Exit{Code: codeTrap, Reason: reason}
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
		return printable(text)
	}
	frame, _, _ := strings.Cut(strings.TrimSpace(trace), "\n")
	if frame != "" {
		text += " in " + frame
	}
	return "trap: " + printable(text)
}

// finish frees the instances, records how the replica ended and gives back what it held. Only the
// first call counts.
func (b *base) finish(exit sandbox.Exit, free func()) {
	b.ends.Do(func() {
		b.cancel()
		b.closeShared()
		free()
		exit.At = time.Now()
		b.log.Close()
		b.driver.forget(b)
		b.End(exit)
	})
}

// gone waits for the end of a replica that was ended by force. A guest sees it at its next tick; what
// the host does for it ends with its context.
func (b *base) gone() error {
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-b.Done():
		return nil
	case <-timer.C:
		return api.Errorf(api.CodeTimeout, "replica %s still runs %s after it was to end", b.ID(), killWait)
	}
}

// killWait bounds the wait for a guest that was ended by force.
const killWait = 5 * time.Second

// ID implements sandbox.Handle.
func (b *base) ID() string { return b.spec.ID }

// Exec implements sandbox.Handle: a module is not a machine with other programs on it.
func (b *base) Exec(context.Context, sandbox.ExecRequest) (int, error) {
	return 0, api.Errorf(api.CodeInvalid, "nothing can be executed in a wasm replica: it is one module, without other programs").
		WithHint("read its output with cloudless logs")
}

// Usage implements sandbox.Handle. CPUTime is the time spent in the guest's code and in calls that
// do not wait.
func (b *base) Usage(context.Context) (sandbox.Usage, error) {
	sum, instances := b.usage.now()
	return sandbox.Usage{CPUTime: sum.CPU, Fuel: sum.Fuel, Memory: int64(b.budget.Used()), Instances: instances}, nil
}
