package wasm

import (
	"reflect"

	wapi "github.com/tetratelabs/wazero/api"
)

// freeBeside is what an instance may have beside its memory, in tables, globals and the engine's stack,
// before it counts as memory: nearly all have less.
const freeBeside = 256 << 10

// export is a function of a guest that the host calls.
type export struct {
	wapi.Function
	name  string
	stack engineStack
}

// export finds a function () -> (); nil if the guest has none of that name.
func (i *instance) export(name string) *export {
	f := i.ExportedFunction(name)
	if f == nil {
		return nil
	}
	return &export{f, name, stackOf(f)}
}

// engineStack is what the engine runs calls of a function on. The engine makes it larger as it is needed, up to
// some hundred megabytes in the heap of this process, and keeps it. rewrite counts frames by what a function
// declares, and no count from outside can know what a compiler spills there. So the engine's own field is read.
type engineStack struct {
	slice reflect.Value
	item  int // bytes
}

// stackOf finds it. A function of the host has none.
func stackOf(f wapi.Function) engineStack {
	slice := reflect.ValueOf(f).Elem().FieldByName("stack")
	if !slice.IsValid() {
		return engineStack{}
	}
	return engineStack{slice, int(slice.Type().Elem().Size())}
}

func (s engineStack) bytes() int {
	if s.item == 0 {
		return 0
	}
	return s.slice.Cap() * s.item
}

// countStack counts what the stack of the present call has grown to as the instance's memory, and ends the call
// if there is no room for it. Between two ticks a stack may be larger.
func (i *instance) countStack() {
	size := i.running.bytes()
	if size <= i.counted {
		return
	}
	i.counted = size
	if !i.holdBeside(size) {
		panic(errStack)
	}
}

// counted is how much of what an instance has beside its memory counts as memory.
func counted(beside int64) uint64 { return uint64(max(beside-freeBeside, 0)) }

// holdBeside has the instance's account hold what it has beside its memory, with a stack of so many bytes.
func (i *instance) holdBeside(stack int) bool {
	n := counted(i.code.metered.Beside + int64(stack))
	if i.memory.Beside(n) {
		return true
	}
	i.crowded = i.memory.Held()+n <= i.budget.Limit() // others hold it
	return false
}

// leaveStack gives back what a call had of stack beyond what is free. Then the function gets a new one.
func (i *instance) leaveStack(f *export) {
	i.running, i.counted = engineStack{}, 0
	if f.stack.bytes() > freeBeside {
		*f = *i.export(f.name)
		i.holdBeside(0) // less than it holds
	}
}
