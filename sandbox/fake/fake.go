// Package fake is a sandbox.Driver in memory whose replicas do what a Script says. Tests of the agent
// use it to see starts, crashes and stops without a process, a module or a container.
package fake

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// Script says how the driver and its replicas behave. The zero value is a container driver whose
// replicas start at once, run until they are told to stop, and then end with code 0.
type Script struct {
	Variant   api.Variant // default VariantContainer
	Reason    string      // if set, Info says that the driver does not work, with this reason
	Adoptable bool        // replicas outlive Close and can be adopted

	// Prepare and Start, if set, are called before the driver does its part; they may wait (until ctx
	// ends), record, or fail.
	Prepare func(ctx context.Context, spec sandbox.Spec) error
	Start   func(ctx context.Context, spec sandbox.Spec) error

	// Main, if set, is what a replica runs.
	Main func(Guest) sandbox.Exit
	// Handler, if set, makes the handler of a replica's endpoint; Host is its address.
	Handler func(spec sandbox.Spec) http.Handler
	Host    string
	// Exec, if set, runs commands; without it Exec is refused.
	Exec  func(ctx context.Context, spec sandbox.Spec, req sandbox.ExecRequest) (int, error)
	Usage sandbox.Usage
}

// Guest is what Main sees of its replica. Term is closed when the replica is asked to stop, Killed
// when it is ended by force: its exit no longer counts then, and Main must return.
type Guest struct {
	Spec   sandbox.Spec
	Term   <-chan struct{}
	Killed <-chan struct{}
}

// Driver implements sandbox.Driver.
type Driver struct {
	script  Script
	mu      sync.Mutex
	running map[string]*replica
	starts  map[string]int
}

var _ sandbox.Driver = (*Driver)(nil)

// New makes a driver that follows s.
func New(s Script) *Driver {
	if s.Variant == "" {
		s.Variant = api.VariantContainer
	}
	return &Driver{script: s, running: map[string]*replica{}, starts: map[string]int{}}
}

// Variant implements sandbox.Driver.
func (d *Driver) Variant() api.Variant { return d.script.Variant }

// Info implements sandbox.Driver.
func (d *Driver) Info(context.Context) sandbox.Info {
	return sandbox.Info{Available: d.script.Reason == "", Reason: d.script.Reason, Engine: "fake"}
}

// Prepare implements sandbox.Driver.
func (d *Driver) Prepare(ctx context.Context, spec sandbox.Spec) error {
	if err := d.accepts(spec); err != nil {
		return err
	}
	return call(ctx, d.script.Prepare, spec)
}

func (d *Driver) accepts(spec sandbox.Spec) error {
	if spec.Wasm == nil && d.script.Variant == api.VariantWasm || spec.Container == nil && d.script.Variant == api.VariantContainer {
		return api.Errorf(api.CodeInvalid, "the spec of replica %s has no %s part", spec.ID, d.script.Variant)
	}
	return nil
}

func call(ctx context.Context, hook func(context.Context, sandbox.Spec) error, spec sandbox.Spec) error {
	if hook != nil {
		if err := hook(ctx, spec); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Start implements sandbox.Driver.
func (d *Driver) Start(ctx context.Context, spec sandbox.Spec) (sandbox.Handle, error) {
	if err := d.Prepare(ctx, spec); err != nil {
		return nil, err
	}
	if err := call(ctx, d.script.Start, spec); err != nil {
		return nil, err
	}
	r := newReplica(d, spec)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running[spec.ID] != nil {
		return nil, api.Errorf(api.CodeConflict, "replica %s runs already", spec.ID)
	}
	d.running[spec.ID] = r
	d.starts[spec.ID]++
	r.begin()
	return r, nil
}

// Adopt implements sandbox.Driver.
func (d *Driver) Adopt(_ context.Context, spec sandbox.Spec) (sandbox.Handle, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.running[spec.ID]; r != nil && d.script.Adoptable {
		return r, nil
	}
	return nil, api.Errorf(api.CodeNotFound, "replica %s is gone", spec.ID)
}

// Clean implements sandbox.Driver.
func (d *Driver) Clean(_ context.Context, keep map[string]bool) error {
	for _, id := range d.Running() {
		if !keep[id] {
			d.Kill(id)
		}
	}
	return nil
}

// Close implements sandbox.Driver: it ends the replicas unless they are Adoptable.
func (d *Driver) Close() error {
	if d.script.Adoptable {
		return nil
	}
	return d.Clean(context.Background(), nil)
}

// Running lists the ids of the replicas that run, sorted.
func (d *Driver) Running() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	ids := make([]string, 0, len(d.running))
	for id := range d.running {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Starts counts the successful starts of a replica.
func (d *Driver) Starts(id string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.starts[id]
}

// TotalStarts counts the successful starts of all replicas.
func (d *Driver) TotalStarts() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	total := 0
	for _, n := range d.starts {
		total += n
	}
	return total
}

// Spec is what a running replica was started with.
func (d *Driver) Spec(id string) (sandbox.Spec, bool) {
	r := d.replica(id)
	if r == nil {
		return sandbox.Spec{}, false
	}
	return r.guest.Spec, true
}

// Kill ends a replica as a crash would, with code 137; false if it does not run.
func (d *Driver) Kill(id string) bool {
	return d.End(id, sandbox.Exit{Code: 137, Reason: "killed"})
}

// End ends a replica with the exit given and returns once it is gone; false if it does not run.
func (d *Driver) End(id string, exit sandbox.Exit) bool {
	r := d.replica(id)
	if r == nil {
		return false
	}
	r.kill(exit)
	return true
}

func (d *Driver) replica(id string) *replica {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.running[id]
}

func (d *Driver) forget(r *replica) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running[r.ID()] == r {
		delete(d.running, r.ID())
	}
}

// replica implements sandbox.Handle.
type replica struct {
	sandbox.Ending
	driver *Driver
	guest  Guest
	term   func()
	killed func()
	group  *run.Group
	serve  http.Handler
}

func newReplica(d *Driver, spec sandbox.Spec) *replica {
	term, killed := make(chan struct{}), make(chan struct{})
	r := &replica{
		driver: d, guest: Guest{Spec: spec, Term: term, Killed: killed},
		term: sync.OnceFunc(func() { close(term) }), killed: sync.OnceFunc(func() { close(killed) }),
		group: run.New(context.Background()),
	}
	if d.script.Handler != nil {
		r.serve = r.whileRunning(d.script.Handler(spec))
	}
	return r
}

// whileRunning answers 503 for a replica that has ended.
func (r *replica) whileRunning(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		select {
		case <-r.Done():
			http.Error(w, "the replica has ended", http.StatusServiceUnavailable)
		default:
			next.ServeHTTP(w, req)
		}
	})
}

// begin runs Main until the replica ends or is killed.
func (r *replica) begin() {
	main := r.driver.script.Main
	if main == nil {
		main = untilStopped
	}
	r.group.Go("fake replica "+r.ID(), func(context.Context) error {
		r.end(main(r.guest))
		return nil
	})
}

func untilStopped(g Guest) sandbox.Exit {
	select {
	case <-g.Term:
	case <-g.Killed:
	}
	return sandbox.Exit{Reason: "stopped"}
}

// end records the first exit; later ones (of a Main that was killed) do not count.
func (r *replica) end(exit sandbox.Exit) {
	exit.At = time.Now()
	r.driver.forget(r)
	r.End(exit)
}

func (r *replica) kill(exit sandbox.Exit) {
	r.end(exit)
	r.killed()
	_ = r.group.Wait() // Main's own failure is the test's business
}

// ID implements sandbox.Handle.
func (r *replica) ID() string { return r.guest.Spec.ID }

// Stop implements sandbox.Handle.
func (r *replica) Stop(ctx context.Context, grace time.Duration) error {
	r.term()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-r.Done():
	case <-timer.C:
	case <-ctx.Done():
	}
	r.kill(sandbox.Exit{Code: 137, Reason: "stopped by force"})
	return nil
}

// Endpoint implements sandbox.Handle.
func (r *replica) Endpoint() sandbox.Endpoint {
	return sandbox.Endpoint{Handler: r.serve, Host: r.driver.script.Host}
}

// Exec implements sandbox.Handle.
func (r *replica) Exec(ctx context.Context, req sandbox.ExecRequest) (int, error) {
	if r.driver.script.Exec == nil {
		return 0, api.Errorf(api.CodeInvalid, "nothing can be executed in replica %s: its script has no Exec", r.ID())
	}
	return r.driver.script.Exec(ctx, r.guest.Spec, req)
}

// Usage implements sandbox.Handle.
func (r *replica) Usage(context.Context) (sandbox.Usage, error) { return r.driver.script.Usage, nil }
