package wasm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	wapi "github.com/tetratelabs/wazero/api"

	"github.com/cloudless/cloudless/sandbox/rewrite"
)

const (
	// fuelSlice is what a guest gets at a time: some 50 µs of work. Go's collector waits for a guest
	// until its next tick, so a slice is also the longest pause that a guest can cause.
	fuelSlice = 100_000
	// leastTurn is how long a guest runs before it lets others run: some use up a slice in no time, as they are
	// charged for memory that an instance before has cleared already. Go's collector need not wait for this, but
	// for a tick only.
	leastTurn = 50 * time.Microsecond
	// stackBytes bounds the nested calls of a guest, by rewrite's count of their frames.
	stackBytes = 16 << 20
	// bytesPerFuel is what the host charges for bytes that it moves for a guest, as rewrite does.
	bytesPerFuel = 16
	// callFuel is charged for each call of the host. It costs the guest some instructions and us much
	// more, so that without it a slice would last a hundred times as long as it is meant to.
	callFuel = 200
)

var (
	errEnded = errors.New("the call was ended")
	errStack = errors.New("call stack exhausted")
)

// meterCode checks a module and makes it stop when it is told to. All of its imports that nobody grants
// are named, and where the first one is.
func meterCode(code []byte, host hostFunctions) (*rewrite.Output, error) {
	var unknown []string
	o := rewrite.Options{Limits: rewrite.DefaultLimits(), StackBytes: stackBytes, Granted: host.grants}
	out, err := rewrite.Module(code, o)
	if err == nil {
		return out, nil
	}
	o.Granted = func(module, name string) bool {
		if !host.grants(module, name) {
			unknown = append(unknown, module+"."+name)
		}
		return true
	}
	var first *rewrite.Error
	if _, other := rewrite.Module(code, o); other == nil && len(unknown) > 0 && errors.As(err, &first) {
		return nil, notGranted(unknown, fmt.Sprintf(" (the first at byte %#x)", first.Offset))
	}
	return nil, invalid("the module is refused: %v", err).
		WithHint("it is damaged, larger than modules may be here, or uses a proposal of WebAssembly that is not in version 2.0")
}

// tank is an instance's fuel. The guest takes from it in a global of its own. What the host takes is
// gathered first, since the engine's globals are slow to reach from outside.
type tank struct {
	meter *meter
	level wapi.MutableGlobal
	given int64 // at the last filling
	owed  int64 // to be taken from the level
}

// mostOwed is a small part of a slice, so that a guest ticks about when it should.
const mostOwed = fuelSlice / 50

func (t *tank) fill() {
	t.level.Set(fuelSlice)
	t.given = fuelSlice
}

// count adds up what has been spent since the last filling.
func (t *tank) count() {
	level := int64(t.level.Get())
	t.meter.fuel.Add(t.given - level + t.owed)
	t.given, t.owed = level, 0
}

// charge takes fuel for bytes that the host moves.
func (t *tank) charge(bytes int) { t.take(bytes / bytesPerFuel) }

func (t *tank) take(fuel int) {
	if t.owed += int64(fuel); t.owed < mostOwed {
		return
	}
	t.level.Set(t.level.Get() - uint64(t.owed))
	t.owed = 0
}

// metered makes a guest pay for a call of the host.
func metered(f wapi.GoModuleFunc) wapi.GoModuleFunc {
	return func(ctx context.Context, m wapi.Module, stack []uint64) {
		i := caller(ctx)
		i.tank.take(callFuel)
		i.countStack()
		f(ctx, m, stack)
	}
}

// tick is called by a guest that has used up its fuel, or its stack. It ends the call, or lets others
// run and refills.
func tick(ctx context.Context, _ wapi.Module, _ []uint64) {
	i := caller(ctx)
	if int32(i.stack.Get()) < 0 {
		panic(errStack)
	}
	i.countStack()
	if i.bounds.Err() != nil {
		panic(errEnded)
	}
	took := i.clock.lap()
	if err := i.throttle(took); err != nil {
		panic(err)
	}
	if i.turn += took; i.turn >= leastTurn {
		i.region.Unwatch()
		runtime.Gosched()
		i.turn = 0
	}
	i.clock.start() // what it has waited for its share is not its work
	i.tank.count()
	i.tank.fill()
}
