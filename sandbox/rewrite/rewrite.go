// Package rewrite turns a WebAssembly module that nobody here wrote into one that can be metered,
// stopped and restored: module bytes in, checked and instrumented module bytes out. It is pure.
//
// What comes out computes what went in, and beside it:
//
//   - counts fuel down in a global, by the weight of its instructions, at the entry of each function
//     and the head of each loop, and calls the import cl.tick when none is left. No loop and no chain
//     of calls runs for long without a tick, which may refill the global, or trap;
//   - charges memory and table instructions by the amount that they move, and moves memory in pieces;
//   - counts the stack down where a function calls others, and lends what is left in a second global to who
//     is called; when none is left it calls cl.tick, which finds that global negative, and traps, long before
//     the engine's own limit;
//   - exports its mutable globals, so that the host can restore them, and counts the pages of a memory
//     that grows in one more, so that the guest's size can be restored too;
//   - has no table that can grow past a limit, and no custom section but its names;
//   - exports its start function instead of having it run by who instantiates it, so that it runs as all
//     others do.
//
// What goes in is WebAssembly Core 2.0 in its binary format
// (https://www.w3.org/TR/wasm-core-2/#binary-format%E2%91%A0). Later proposals are refused by name.
// Types are not checked here: the engine that compiles the output validates it. But nothing is passed
// on that this package did not decode, so both read the same instructions.
//
// Start at Module. parse.go, declare.go and segments.go read sections, body.go and opcodes.go read
// instructions, emit.go writes the new module, meter.go, pages.go and bulk.go make the instructions that are added.
package rewrite

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Version counts the changes of what this package emits; caches of its output are keyed by it.
const Version = 8

// The import that is added; a guest may not have it.
const (
	TickModule = "cl"
	TickName   = "tick"
)

// Limits bound what is accepted. A zero is a limit of none, so begin with DefaultLimits.
type Limits struct {
	Functions     int    // that are defined
	BodyBytes     int    // of one function
	Locals        int    // of one function, without its parameters
	AllLocals     int    // of all functions: who loads a module spells out what is a few bytes in it
	Passed        int    // parameters of one function, and results, each
	TypeValues    int    // parameters and results of all types
	Nesting       int    // of blocks in one function
	BranchTargets int    // of one br_table
	Complexity    int    // locals times blocks of one function: what makes compilers slow
	Types         int    // and so many imports, globals, exports, segments each
	MemoryPages   uint32 // the most that a memory may want from its start, of 64 KiB
	TableEntries  uint32 // of one table, from the start and ever
	Tables        int
	Elements      int // entries of all segments of tables
	DataBytes     int // of all segments
	CustomBytes   int // of all custom sections
}

// DefaultLimits lets through what compilers of Go, Rust, C and AssemblyScript make.
func DefaultLimits() Limits {
	return Limits{
		Functions: 100_000, BodyBytes: 1 << 20, Locals: 5_000, AllLocals: 1_000_000, Passed: 1_000, TypeValues: 1_000_000,
		Nesting: 1_000, BranchTargets: 20_000, Complexity: 2_000_000, Types: 100_000, MemoryPages: 1 << 14,
		TableEntries: 100_000, Tables: 16, Elements: 200_000, DataBytes: 64 << 20, CustomBytes: 64 << 20,
	}
}

// Options say what is accepted and added.
type Options struct {
	Limits
	// Granted says whether the host gives a function; nil grants all. Memories, tables and globals
	// are never given.
	Granted func(module, name string) bool
	// StackBytes is what the calls of a guest may use, about; 0 leaves the guard out.
	StackBytes int32
}

// Output is the new module and what its host has to know.
type Output struct {
	Module []byte
	Fuel   string // export of the fuel global, i64; it starts at 0, so that the first call ticks
	// Stack is the export of the stack global, i32, which starts at StackBytes; "" without a guard. The host sets
	// it before each call: it is what the function that runs has left, and nobody puts it back.
	Stack string
	// Pages is the export of the global that counts the pages which the guest sees, i32; "" for a
	// module whose memory cannot grow. See pages.go.
	Pages string
	// Start is the export of the start function, () -> (), which the host calls before any other; "" for none.
	Start string
	// Globals are the exports of all globals that the host has to restore, in their order: the mutable
	// ones that the module defines, and Pages. Those that it did not export itself are among Hidden.
	Globals []string
	// Hidden are all exports that were added; neither host code nor guests should offer them.
	Hidden []string
	// MemoryPages is what the module's memory has from its start, of 64 KiB; 0 without a memory.
	MemoryPages uint32
	// Beside is about how many bytes an instance takes beside its memory and its stack: for its tables, as far as
	// they may grow, its globals and its segments of tables.
	Beside int64
	// Unfolded is about how many bytes who loads the module makes of what is a few in it: locals, types and
	// entries of segments.
	Unfolded int64
	// WritesTables and DropsSegments tell of instructions whose effects cannot be restored, VectorGlobals
	// of mutable globals that no host can set, since an engine's globals are 64 bits to it. A module that
	// has one of them wants a new instance for each request.
	WritesTables  bool
	DropsSegments bool
	VectorGlobals bool
}

// What a local, and a parameter or result, becomes when a module is loaded, what an entry of a segment does,
// and what an instance has of entries and globals, in bytes: as wazero has them.
const (
	unfoldedValue = 8
	unfoldedEntry = 48
	entryBytes    = 8
	globalBytes   = 128
)

func (m *module) beside() int64 {
	entries := int64(m.entries)
	for _, t := range m.tables {
		if m.growsTables {
			entries += int64(t.max)
		} else {
			entries += int64(t.min)
		}
	}
	return entries*entryBytes + int64(len(m.globals))*globalBytes
}

// Error says why a module is refused, and where.
type Error struct {
	Offset int // in bytes from the module's start
	Reason string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("at byte %#x: %s", e.Offset, e.Reason) }

// Module rewrites a module. Its error is an *Error.
func Module(code []byte, o Options) (*Output, error) { return rewritten(code, o, lapCost) }

// rewritten is Module with another cost of the rounds that are not charged one by one.
func rewritten(code []byte, o Options, laps int64) (*Output, error) {
	m, err := parse(code, o)
	if err != nil {
		return nil, err
	}
	m.laps = laps
	out := &Output{
		MemoryPages: m.least, WritesTables: m.writesTables, DropsSegments: m.dropsSegments,
		Beside:   m.beside(),
		Unfolded: int64(m.locals+m.values)*unfoldedValue + int64(m.entries)*unfoldedEntry,
	}
	m.plan(o, out)
	out.Module = m.emit(o)
	return out, nil
}

// plan decides on the indices and names of all that is added.
func (m *module) plan(o Options, out *Output) {
	prefix := m.freePrefix()
	m.tickType = m.typeOf(funcType{})
	m.tick = m.importedFuncs
	out.Fuel = prefix + "fuel"
	m.fuel = m.addGlobal(out.Fuel)
	if m.guarded = o.StackBytes > 0; m.guarded {
		out.Stack = prefix + "stack"
		m.stack = m.addGlobal(out.Stack)
	}
	if m.virtual() {
		out.Pages = prefix + "pages"
		m.pages = m.addGlobal(out.Pages)
		m.grow = m.addFunc(funcType{params: []byte{typeI32}, results: []byte{typeI32}}, m.growth())
	}
	bulk := funcType{params: []byte{typeI32, typeI32, typeI32}}
	if m.fills {
		m.fill = m.addFunc(bulk, m.filling())
	}
	if m.copies {
		m.copy = m.addFunc(bulk, m.copying())
	}
	if m.start != nil {
		out.Start = prefix + "start"
		index := m.addFunc(funcType{}, append(op([]byte{0}, opCall, m.funcIndex(*m.start)), opEnd)) // as it may be an import
		m.added = append(m.added, export{out.Start, kindFunc, index})
	}
	for i := range m.bodies {
		if b := &m.bodies[i]; b.loops() {
			b.block = m.blockOf(m.types[m.funcs[i]].results)
		}
	}
	m.planGlobals(prefix, out)
	for _, e := range m.added {
		out.Hidden = append(out.Hidden, e.name)
	}
}

// addedFunc is a function that the module did not have.
type addedFunc struct {
	typ  uint32
	code []byte // with its locals
}

// addFunc adds a function behind all others, and returns its index in the new module.
func (m *module) addFunc(t funcType, code []byte) uint32 {
	index := m.funcIndex(uint32(m.allFuncs() + len(m.addedFuncs)))
	m.addedFuncs = append(m.addedFuncs, addedFunc{m.typeOf(t), code})
	return index
}

// addGlobal adds a global that only the host sees, and returns its index.
func (m *module) addGlobal(name string) uint32 {
	index := uint32(m.allGlobals()) + m.addedGlobals
	m.addedGlobals++
	m.added = append(m.added, export{name, kindGlobal, index})
	return index
}

// planGlobals exports what the host has to restore.
func (m *module) planGlobals(prefix string, out *Output) {
	known := map[uint32]string{}
	for _, e := range m.exports {
		if _, dup := known[e.index]; e.kind == kindGlobal && !dup {
			known[e.index] = e.name
		}
	}
	for i, g := range m.globals {
		if !g.mutable {
			continue
		}
		if g.typ[0] == typeV128 {
			out.VectorGlobals = true
			continue
		}
		index := m.importedGlobals + uint32(i)
		name, ok := known[index]
		if !ok {
			name = prefix + "g" + strconv.Itoa(i)
			m.added = append(m.added, export{name, kindGlobal, index})
		}
		out.Globals = append(out.Globals, name)
	}
	if out.Pages != "" {
		out.Globals = append(out.Globals, out.Pages)
	}
}

// freePrefix is one that no export of the module begins with.
func (m *module) freePrefix() string {
	for n := 0; ; n++ {
		prefix := "cl" + strings.Repeat("_", n) + ":"
		if !slices.ContainsFunc(m.exports, func(e export) bool { return strings.HasPrefix(e.name, prefix) }) {
			return prefix
		}
	}
}

// typeOf is the index of a type, which is added unless the module has it.
func (m *module) typeOf(t funcType) uint32 {
	key := string(t.params) + "|" + string(t.results)
	if m.typeIndex == nil {
		m.typeIndex = map[string]uint32{}
		for i, t := range m.types {
			k := string(t.params) + "|" + string(t.results)
			if _, dup := m.typeIndex[k]; !dup {
				m.typeIndex[k] = uint32(i)
			}
		}
	}
	if i, ok := m.typeIndex[key]; ok {
		return i
	}
	i := uint32(len(m.types))
	m.types = append(m.types, t)
	m.typeIndex[key] = i
	return i
}

// blockOf is the encoded type of a block that takes nothing and leaves results.
func (m *module) blockOf(results []byte) []byte {
	switch len(results) {
	case 0:
		return []byte{blockEmpty}
	case 1:
		return []byte{results[0]}
	}
	return appendS64(nil, int64(m.typeOf(funcType{results: results})))
}
