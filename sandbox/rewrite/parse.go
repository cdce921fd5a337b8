package rewrite

import (
	"bytes"
	"unicode/utf8"
)

// Sections, by their id (https://www.w3.org/TR/wasm-core-2/#sections%E2%91%A0).
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
	secTag
)

// order is that in which sections must come.
var order = [...]int{secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5, secGlobal: 6, secExport: 7,
	secStart: 8, secElement: 9, secDataCount: 10, secCode: 11, secData: 12}

var sectionNames = [...]string{"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data", "data count"}

// Kinds of imports and exports.
const (
	kindFunc = iota
	kindTable
	kindMemory
	kindGlobal
	kindTag
)

type funcType struct{ params, results []byte }

type imported struct {
	from, to int // the whole entry, as it came
}

type table struct {
	elem     byte
	min, max uint32
	bounded  bool
}

// global keeps its type as it came; its initial value is a constant expression.
type global struct {
	mutable bool
	typ     []byte
	init    constant
}

// constant is a constant expression. When isFunc, it is ref.func of a function.
type constant struct {
	code   []byte
	isFunc bool
	fn     uint32
}

type export struct {
	name  string
	kind  byte
	index uint32
}

// element is a segment of a table: pieces of code as they came, and function indices among them.
type element struct{ parts []constant }

// module is what was read, and what plan adds to it.
type module struct {
	code   []byte
	limits Limits
	laps   int64 // see lapCost

	types   []funcType
	imports []imported
	funcs   []uint32 // types of the defined functions
	tables  []table
	memory  []byte // the section's content
	least   uint32 // pages of the memory that is defined
	globals []global
	exports []export
	start   *uint32
	elems   []element
	count   []byte // content of the data count section
	data    []byte // content of the data section
	bodies  []body
	names   []byte // content of the name section, without its name

	values, locals, entries int // of all types, functions and segments of tables

	importedFuncs, importedTables, importedMemories, importedGlobals, memories uint32

	writesTables, growsTables, dropsSegments, grows, fills, copies bool

	tickType, tick     uint32
	grow, fill, copy   uint32 // added functions, where they are needed
	addedFuncs         []addedFunc
	fuel, stack, pages uint32
	addedGlobals       uint32
	guarded            bool
	added              []export
	typeIndex          map[string]uint32
}

var (
	magic     = []byte("\x00asm")
	version   = []byte{1, 0, 0, 0}
	component = []byte{0x0d, 0, 1, 0}
)

func parse(code []byte, o Options) (*module, error) {
	m := &module{code: code, limits: o.Limits}
	r := &reader{data: code, end: len(code)}
	m.header(r)
	last, custom := 0, 0
	for r.more() {
		at := r.pos
		id := int(r.byte())
		size := int(r.u32())
		if r.err == nil && size > r.end-r.pos {
			r.fail("a section of %d bytes does not fit into the %d that are left", size, r.end-r.pos)
		}
		if r.err != nil {
			break
		}
		sub := &reader{data: code, pos: r.pos, end: r.pos + size}
		switch {
		case id == secCustom:
			if custom += size; custom > o.CustomBytes {
				sub.fail("custom sections have more than %d bytes", o.CustomBytes)
			}
			m.custom(sub)
		case id == secTag:
			sub.failProposal(at, "a tag section", exceptions)
		case id >= len(order):
			sub.failAt(at, "there is no section %d", id)
		case order[id] <= last:
			sub.failAt(at, "the %s section is out of order, or there twice", sectionNames[id])
		default:
			last = order[id]
			m.section(sub, id, o)
		}
		if sub.err == nil && sub.pos != sub.end {
			sub.fail("the %s section is longer than what it holds", sectionNames[id])
		}
		r.err, r.pos = sub.err, sub.end
	}
	if r.err == nil && len(m.bodies) != len(m.funcs) {
		r.fail("%d functions are declared and %d have code", len(m.funcs), len(m.bodies))
	}
	if r.err != nil {
		return nil, r.err
	}
	return m, nil
}

func (m *module) header(r *reader) {
	head := r.bytes(4)
	if r.err != nil || !bytes.Equal(head, magic) {
		r.err = nil
		r.failAt(0, "this is no WebAssembly: it does not begin with \\0asm")
		return
	}
	v := r.bytes(4)
	switch {
	case r.err != nil || bytes.Equal(v, version):
	case bytes.Equal(v, component):
		r.failAt(4, "this is a component of the component model; only core modules run here")
	default:
		r.failAt(4, "the version % x is unknown", v)
	}
}

func (m *module) section(r *reader, id int, o Options) {
	switch id {
	case secType:
		m.readTypes(r)
	case secImport:
		m.readImports(r, o)
	case secFunction:
		m.readFunctions(r)
	case secTable:
		m.readTables(r)
	case secMemory:
		m.readMemories(r)
	case secGlobal:
		m.readGlobals(r)
	case secExport:
		m.readExports(r)
	case secStart:
		f := r.index("function", m.allFuncs())
		m.start = &f
	case secElement:
		m.readElements(r)
	case secDataCount:
		from := r.pos
		r.u32()
		m.count = m.code[from:r.pos]
	case secCode:
		m.readCode(r)
	case secData:
		m.readData(r)
	}
}

// custom keeps the names and drops the rest: debugging data would be wrong after the change.
func (m *module) custom(r *reader) {
	name := r.name()
	if r.err == nil && !utf8.ValidString(name) {
		r.fail("the name of a custom section is not UTF-8")
	}
	rest := r.bytes(r.end - r.pos)
	if r.err == nil && name == "name" && m.names == nil {
		m.names = rest
	}
}
