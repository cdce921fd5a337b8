// Package wasi is WASI preview 1 for one guest: its 46 functions, and the world that they show, which
// is arguments, environment, clocks, random numbers, standard streams, mounted folders and, for a
// guest that serves, a listener without a port.
//
// It knows no engine. A binding gives each Function to its engine under the name Module, and calls it
// with the World of the instance that calls, the instance's memory and its stack. The order of things:
//
//	New, then for each call: Bind, run the guest, and Restore to use the instance again; at the end Close.
//
// What a guest does to files goes through os.Root, or through an *at system call on the last part of
// a path in a folder that os.Root has opened (place): no path leaves its mount. Whatever waits, waits
// in World.pause and nowhere else, so it ends with the context of the call. A pointer that lies outside
// of the guest's memory gives EFAULT.
package wasi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
)

// Module is the name that guests import the functions from.
const Module = "wasi_snapshot_preview1"

// DefaultDescriptors is how many descriptors a guest may have open when its Config does not say.
const DefaultDescriptors = 256

// maxStringBytes is what a guest's arguments may take, and its environment, each with a NUL.
const maxStringBytes = 1 << 20

// firstPreopen is the first descriptor after the standard streams. With a Listener it is the
// listener's; the mounts follow.
const firstPreopen = 3

// Config says what a guest sees. The zero Config is a guest with nothing but clocks and random numbers.
type Config struct {
	Args, Env []string // Env holds NAME=value
	Mounts    []Mount
	Listener  *Listener // may be shared by several instances; each connection goes to one of them

	Descriptors int // that may be open, the standard streams and mounts included; 0: DefaultDescriptors

	Random     io.Reader            // nil: crypto/rand
	Wall       func() time.Time     // nil: the machine's
	Mono       func() time.Duration // nil: the time since the agent's start; it must not be 0
	Resolution time.Duration        // of both clocks; 0: DefaultResolution

	// Wait runs what waits for something outside of the guest, so that this does not count as its CPU.
	Wait func(func())
	// Charge is told of work that is proportional to a length that the guest chose, before it is done.
	// It may panic to end the call.
	Charge func(bytes int)
}

// Mount shows a volume to a guest under a path.
type Mount struct {
	Guest    string
	Volume   *Volume
	ReadOnly bool
}

// World is what one instance sees. It is not safe for concurrent use, as an instance is not.
type World struct {
	config    Config
	args, env []string

	stdin          *input
	stdout, stderr *output
	table          []*descriptor // by number; nil where none is open
	marked         []saved
	hasMark        bool

	ctx  context.Context // of the running call
	wake signal          // something that the guest may wait for has changed

	lastMono      uint64         // what the guest last read on its monotonic clock
	subscriptions []subscription // of the last poll_oneoff, kept for their space
}

// Exit is what proc_exit panics with. The binding takes it for the end of the call; the instance is
// not to be used again, as its stack is not unwound.
type Exit struct{ Code uint32 }

func (e *Exit) Error() string { return fmt.Sprintf("the guest exited with code %d", e.Code) }

// New makes the world of an instance. The volumes and the listener stay the caller's.
func New(c Config) (*World, error) {
	w := &World{config: c.withDefaults(), ctx: context.Background(), wake: newSignal()}
	if err := errors.Join(w.SetArgs(c.Args), w.SetEnv(c.Env)); err != nil {
		return nil, err
	}
	w.stdin, w.stdout, w.stderr = &input{wake: w.wake}, &output{}, &output{}
	w.table = []*descriptor{
		{object: w.stdin, base: inputRights},
		{object: w.stdout, base: outputRights},
		{object: w.stderr, base: outputRights},
	}
	w.Bind(context.Background(), nil, nil, nil)
	if c.Listener != nil {
		c.Listener.attach(w.wake)
		w.table = append(w.table, &descriptor{object: &acceptor{c.Listener, w.wake}, base: listenerRights, inheriting: socketRights, preopen: true})
	}
	for _, m := range c.Mounts {
		if err := w.mount(m); err != nil {
			_ = w.Close()
			return nil, err
		}
	}
	return w, nil
}

func (c Config) withDefaults() Config {
	if c.Descriptors == 0 {
		c.Descriptors = DefaultDescriptors
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Wall == nil {
		c.Wall = time.Now
	}
	if c.Mono == nil {
		c.Mono = sinceStart
	}
	if c.Resolution == 0 {
		c.Resolution = DefaultResolution
	}
	if c.Wait == nil {
		c.Wait = func(f func()) { f() }
	}
	if c.Charge == nil {
		c.Charge = func(int) {}
	}
	return c
}

func (w *World) mount(m Mount) error {
	if err := checkStrings("the path of a mount", m.Guest); err != nil {
		return err
	}
	if len(w.table) >= w.config.Descriptors {
		return api.Errorf(api.CodeInvalid, "the mount %q is one too many: a guest may have %d descriptors", m.Guest, w.config.Descriptors)
	}
	dir, err := m.Volume.top(m.ReadOnly)
	if err != nil {
		return fmt.Errorf("mount %q: %w", m.Guest, err)
	}
	w.table = append(w.table, &descriptor{object: dir, base: directoryRights, inheriting: allRights, preopen: true, name: m.Guest})
	return nil
}

// SetArgs gives the guest other arguments, until they are set again.
func (w *World) SetArgs(args []string) error {
	if err := checkStrings("the arguments", args...); err != nil {
		return err
	}
	w.args = slices.Clone(args)
	return nil
}

// SetEnv gives the guest another environment, until it is set again.
func (w *World) SetEnv(env []string) error {
	if err := checkStrings("the environment", env...); err != nil {
		return err
	}
	w.env = slices.Clone(env)
	return nil
}

// checkStrings refuses what C could not hold, and more than maxStringBytes.
func checkStrings(what string, all ...string) error {
	total := 0
	for _, s := range all {
		if strings.ContainsRune(s, 0) {
			return api.Errorf(api.CodeInvalid, "%s: a NUL in %q", what, s)
		}
		total += len(s) + 1
	}
	if total > maxStringBytes {
		return api.Errorf(api.CodeInvalid, "%s: %d bytes, at most %d", what, total, maxStringBytes)
	}
	return nil
}

// Bind sets the streams of the call that follows, and the context that ends whatever the guest waits
// for in it: the functions then panic with an error that wraps the context's cause, because a guest
// that is merely told of it might wait again. A nil reader is empty, a nil writer takes everything.
//
// A Write must return soon after ctx has ended. So must a Read, for another reason: a goroutine reads
// ahead for the guest, and nothing but the reader can end it.
func (w *World) Bind(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) {
	w.ctx = ctx
	w.stdin.bind(stdin)
	w.stdout.Writer, w.stderr.Writer = stdout, stderr
}

// Close ends what the guest has open. Peers of its connections see them reset.
func (w *World) Close() error {
	w.unmark()
	var errs []error
	for _, d := range w.table {
		if d == nil {
			continue
		}
		if s, ok := d.object.(*socket); ok {
			s.reset()
		}
		errs = append(errs, d.object.close())
	}
	w.table = nil
	return errors.Join(errs...)
}

// ended panics if the call is over.
func (w *World) ended() {
	if w.ctx.Err() != nil {
		panic(fmt.Errorf("wasi: the call has ended: %w", context.Cause(w.ctx)))
	}
}

// pause waits until something that the guest may wait for has changed, or until timer fires. It is the
// only place where a guest waits.
func (w *World) pause(timer <-chan time.Time) {
	w.ended()
	w.config.Wait(func() {
		select {
		case <-w.wake:
		case <-timer:
		case <-w.ctx.Done():
		}
	})
	w.ended()
}

// signal tells one waiter that something has changed. Raising it twice before the waiter looks is the
// same as once, so who waits looks at the state itself, before and after.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}
