package wasm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	wapi "github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/buckets"
	"github.com/cloudless/cloudless/sandbox/egress"
	"github.com/cloudless/cloudless/sandbox/linear"
	"github.com/cloudless/cloudless/sandbox/wasi"
)

// growthBound is how much more memory than its image an instance may keep from one request to the next.
const growthBound = 1 << 20

// instance is one instance of a module: its memory, what it sees of the world, and the call that it
// is in. Calls come one after the other.
type instance struct {
	*base
	code *module
	wapi.Module
	region   *linear.Region
	memory   *linear.Account
	world    *wasi.World
	out, err *lines

	globals []wapi.MutableGlobal // all that the module can change
	stack   wapi.MutableGlobal
	running engineStack // of the present call
	counted int         // bytes of it that the account holds
	refused uint64      // bytes of memory that it wanted in its present call and alone could have had; 0: none
	crowded bool        // such bytes, or some for its stack, which others held
	used    meter
	tank    tank
	clock   stopwatch
	turn    time.Duration // of the guest since it let others run, as far as it has ticked

	ctx     context.Context // a callContext
	bounds  context.Context // of the present call
	request *exchange       // that is being handled, if one is
	fetches *egress.Fetches // that the present call has under way; nil before its first
	storage *buckets.Call   // that the present call has under way in buckets; nil before its first
	line    []byte          // that the guest logged last, for its space

	entry, resume *export // of a server's instance; resume may be nil

	image   *image        // what it can be put back to; nil if to nothing
	idle    time.Duration // its last lap before it was put into the pool, since epoch
	settled bool          // it has been idle since, and gave back what memory it could
}

// callContext carries an instance into host functions, and nothing else.
type callContext struct {
	context.Context
	of *instance
}

type instanceKey struct{}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	if key == (instanceKey{}) {
		return c.of
	}
	return nil
}

// caller is the instance that calls a host function. While it is made, the engine has a context around ours.
func caller(ctx context.Context) *instance {
	if c, ok := ctx.(*callContext); ok {
		return c.of
	}
	return ctx.Value(instanceKey{}).(*instance)
}

// image is what an instance's memory and globals were at a moment between calls.
type image struct {
	memory  *linear.Image
	globals []uint64
}

func (im *image) close() { _ = im.memory.Close() } // it only frees memory

// origin is what an instance is made of.
type origin struct {
	code     *module
	image    *image         // what it begins as; nil for what the module says
	listener *wasi.Listener // what it accepts connections on; nil for nothing
}

// newInstance links an instance and runs its start section within bounds. The caller keeps mem if that
// fails.
func (b *base) newInstance(bounds context.Context, o origin, mem *linear.Account) (*instance, error) {
	i := &instance{base: b, code: o.code, memory: mem, out: &lines{sink: b.log}, err: &lines{sink: b.log}, bounds: bounds, image: o.image}
	i.ctx = &callContext{context.Background(), i}
	i.clock.meter, i.tank.meter = &i.used, &i.used
	err := i.openWorld(o.listener)
	if err == nil && !i.holdBeside(0) {
		err = fmt.Errorf("there is no memory for its tables and globals: they take %d bytes", i.code.metered.Beside)
	}
	if err == nil {
		i.world.Bind(bounds, nil, i.out, i.err) // a start section and _initialize may wait too
		err = i.openMemory()
	}
	if err == nil {
		err = i.link(bounds)
	}
	if err == nil && i.image != nil {
		err = i.become(i.image)
	}
	if err != nil {
		i.free()
		return nil, err
	}
	i.world.Mark()
	return i, nil
}

func (i *instance) openMemory() (err error) {
	if i.image == nil {
		i.region, err = i.driver.arena.Region(i.budget.Limit(), i.memory)
	} else {
		i.region, err = i.driver.arena.Restored(i.image.memory, i.budget.Limit(), i.memory)
	}
	i.clock.region = i.region
	return err
}

// link instantiates the module and runs its start function.
func (i *instance) link(bounds context.Context) error {
	i.clock.start()
	err := i.instantiate()
	i.spend()
	if err != nil {
		return err
	}
	i.usage.add(&i.used)
	i.bindGlobals()
	if name := i.code.metered.Start; name != "" {
		return i.call(bounds, i.export(name))
	}
	return nil
}

// instantiate runs nothing of the guest. A bad initial value in its module may panic in wazero: that is the
// module's fault and an error.
func (i *instance) instantiate() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	ctx := experimental.WithMemoryAllocator(i.ctx, regionAllocator{i})
	i.Module, err = i.driver.engine.runtime.InstantiateModule(ctx, i.code.compiled, linkConfig)
	return err
}

// linkConfig gives nothing: what a guest sees comes from our own host modules. The name is empty so
// that a module can be instantiated many times.
var linkConfig = wazero.NewModuleConfig().WithName("").WithStartFunctions()

// bindGlobals finds the globals that the rewriter has exported.
func (i *instance) bindGlobals() {
	global := func(name string) wapi.MutableGlobal { return i.ExportedGlobal(name).(wapi.MutableGlobal) }
	i.tank.level, i.stack = global(i.code.metered.Fuel), global(i.code.metered.Stack)
	for _, name := range i.code.metered.Globals {
		i.globals = append(i.globals, global(name))
	}
}

// begin and finish surround a call into the guest.
func (i *instance) begin() {
	i.turn = 0
	i.tank.fill()
	i.clock.start()
}

func (i *instance) finish() {
	i.tank.count()
	i.spend()
}

// spend takes the time since the last lap off the replica's share: it was the guest's, or for its sake.
func (i *instance) spend() { i.quota.take(i.clock.lap(), i.clock.since) }

// cost is what all calls so far have used.
func (i *instance) cost() sandbox.Cost { return i.used.cost() }

// call runs exported functions () -> (), one after the other until one fails, within bounds.
func (i *instance) call(bounds context.Context, all ...*export) (err error) {
	i.bounds, i.fetches, i.storage, i.refused, i.crowded = bounds, nil, nil, 0, false
	if err := i.throttle(0); err != nil {
		return err
	}
	i.begin()
	for n := 0; n < len(all) && err == nil; n++ {
		i.stack.Set(stackBytes)
		i.running = all[n].stack
		err = all[n].CallWithStack(i.ctx, nil)
		i.leaveStack(all[n])
	}
	i.finish()
	i.out.end()
	i.err.end()
	return err
}

// throttle counts d of CPU time and waits until the replica's share of the processors allows for more.
func (i *instance) throttle(d time.Duration) error {
	if i.quota == nil {
		return nil
	}
	wait := i.quota.take(d, sinceEpoch())
	if wait == 0 {
		return nil
	}
	i.region.Unwatch()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-i.bounds.Done():
		return errEnded
	}
}

// capture keeps what the instance is now, so that it and others can be put back to it.
func (i *instance) capture() (*image, error) {
	memory, err := i.region.Image()
	if err != nil {
		return nil, err
	}
	im := &image{memory: memory, globals: make([]uint64, len(i.globals))}
	for n, g := range i.globals {
		im.globals[n] = g.Get()
	}
	i.image = im
	return im, nil
}

// become makes a new instance what im was. wazero has put the module's data into memory once more,
// on pages that were shared with the image.
func (i *instance) become(im *image) error {
	if im.memory.Size() > 0 { // else the module may have no memory
		grown := (im.memory.Size() - uint64(i.Memory().Size())) / pageBytes
		if _, ok := i.Memory().Grow(uint32(grown)); !ok {
			return errors.New("there is no memory for an image of the module")
		}
	}
	if err := i.region.Trim(); err != nil {
		return err
	}
	i.setGlobals(im)
	return nil
}

func (i *instance) setGlobals(im *image) {
	for n, g := range i.globals {
		g.Set(im.globals[n])
	}
}

// restore puts the instance back to its image after a call that has returned. After an error it must
// not be used again.
func (i *instance) restore() error {
	switch {
	case i.image == nil:
		return errors.New("the instance has no image")
	case uint64(len(i.region.Bytes())) > i.image.memory.Size()+growthBound:
		return errors.New("the instance has grown")
	case !i.world.Restore():
		return errors.New("the instance has changed its descriptors")
	}
	if err := i.region.Restore(i.image.memory); err != nil {
		return err
	}
	i.setGlobals(i.image)
	return nil
}

// close ends the instance and gives back what it holds.
func (i *instance) close() {
	i.free()
	i.memory.Close()
}

// free is close but for the account. What it closes only frees memory and descriptors.
func (i *instance) free() {
	if i.Module != nil {
		_ = i.Module.Close(i.ctx)
		i.Module = nil
		i.usage.remove(&i.used)
	}
	if i.region != nil {
		_ = i.region.Close()
	}
	if i.world != nil {
		_ = i.world.Close()
	}
	i.out.end()
	i.err.end()
}

// regionAllocator gives a module its region as memory; it has at most one.
type regionAllocator struct{ *instance }

// Allocate implements experimental.MemoryAllocator.
func (a regionAllocator) Allocate(uint64, uint64) experimental.LinearMemory { return a }

// Reallocate implements experimental.LinearMemory.
func (a regionAllocator) Reallocate(size uint64) []byte {
	if p := a.region.Grow(size); p != nil {
		return p[:size]
	}
	if size <= a.budget.Limit() { // others hold it
		a.refused, a.crowded = size, true
	}
	return nil
}

// Free implements experimental.LinearMemory: the instance closes its region itself.
func (a regionAllocator) Free() {}
