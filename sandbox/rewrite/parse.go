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

	importedFuncs, importedTables, importedMemories, importedGlobals, memories uint32

	writesTables, dropsSegments, grows bool

	tickType, tick, growType, grow uint32
	fuel, stack, pages             uint32
	addedGlobals                   uint32
	guarded                        bool
	added                          []export
	typeIndex                      map[string]uint32
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
			sub.failAt(at, "a tag section belongs to the proposal \"exception handling\", which is not supported")
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

func (m *module) readTypes(r *reader) {
	for range r.count("types", m.limits.Types) {
		if form := r.byte(); r.err == nil && form != 0x60 {
			r.failAt(r.pos-1, "type %#x is not that of a function (proposal \"garbage collection\" or \"typed function references\")", form)
		}
		t := funcType{params: m.valTypes(r), results: m.valTypes(r)}
		if r.err != nil {
			return
		}
		m.types = append(m.types, t)
	}
}

func (m *module) valTypes(r *reader) []byte {
	types := r.bytes(r.count("types of values", m.limits.Types))
	for _, t := range types {
		if !isValType(t) {
			r.fail("%#x is no type of a value", t)
		}
	}
	return types
}

func (m *module) readImports(r *reader, o Options) {
	for range r.count("imports", m.limits.Types) {
		at := r.pos
		from, name := r.name(), r.name()
		kind := r.byte()
		if r.err != nil {
			return
		}
		if !utf8.ValidString(from) || !utf8.ValidString(name) {
			r.failAt(at, "the name of an import is not UTF-8")
		}
		m.importOf(r, kind)
		if why := refuseImport(from, name, kind, o); why != "" {
			r.failAt(at, "the module imports %s.%s, %s", from, name, why)
		}
		m.imports = append(m.imports, imported{at, r.pos})
	}
}

// importOf reads what an import is and counts it.
func (m *module) importOf(r *reader, kind byte) {
	switch kind {
	case kindFunc:
		r.index("type", len(m.types))
		m.importedFuncs++
	case kindTable:
		m.tableType(r)
		m.importedTables++
	case kindMemory:
		m.memoryType(r)
		m.importedMemories++
	case kindGlobal:
		m.globalType(r)
		m.importedGlobals++
	case kindTag:
		r.failAt(r.pos-1, "tags belong to the proposal \"exception handling\", which is not supported")
	default:
		r.failAt(r.pos-1, "%#x is no kind of an import", kind)
	}
}

func refuseImport(from, name string, kind byte, o Options) string {
	switch {
	case from == TickModule && name == TickName:
		return "which only the host may call"
	case o.Granted == nil:
		return ""
	case kind != kindFunc:
		return "which is " + [...]string{kindTable: "a table", kindMemory: "a memory", kindGlobal: "a global"}[kind] + ": only functions are given here"
	case !o.Granted(from, name):
		return "which nobody gives it here"
	}
	return ""
}

func (m *module) readFunctions(r *reader) {
	n := r.count("functions", m.limits.Functions)
	m.funcs = make([]uint32, 0, n)
	for range n {
		t := r.index("type", len(m.types))
		if r.err != nil {
			return
		}
		m.funcs = append(m.funcs, t)
	}
}

func (m *module) allFuncs() int   { return int(m.importedFuncs) + len(m.funcs) }
func (m *module) allGlobals() int { return int(m.importedGlobals) + len(m.globals) }

// sizes reads the limits of a table or memory.
func (m *module) sizes(r *reader) (least, most uint32, bounded bool) {
	at := r.pos
	switch flag := r.byte(); {
	case r.err != nil:
	case flag > 1 && flag < 4:
		r.failAt(at, "shared memories belong to the proposal \"threads\", which is not supported")
	case flag > 1:
		r.failAt(at, "limits of kind %#x belong to the proposal \"64-bit memories\", or to none", flag)
	default:
		least = r.u32()
		if bounded = flag == 1; bounded {
			most = r.u32()
		}
	}
	return least, most, bounded
}

func (m *module) tableType(r *reader) table {
	at := r.pos
	elem := r.byte()
	if r.err == nil && !isRefType(elem) {
		r.failAt(at, "%#x is no type of a table's entries", elem)
	}
	least, most, bounded := m.sizes(r)
	if least > m.limits.TableEntries {
		r.failAt(at, "a table wants %d entries from the start: at most %d are allowed", least, m.limits.TableEntries)
	}
	return table{elem, least, most, bounded}
}

func (m *module) memoryType(r *reader) (least uint32) {
	at := r.pos
	least, _, _ = m.sizes(r)
	if least > m.limits.MemoryPages {
		r.failAt(at, "the memory wants %d pages of 64 KiB from the start: at most %d are allowed", least, m.limits.MemoryPages)
	}
	return least
}

func (m *module) globalType(r *reader) (mutable bool) {
	at := r.pos
	t, mut := r.byte(), r.byte()
	if r.err == nil && (!isValType(t) || mut > 1) {
		r.failAt(at, "%#x %#x is no type of a global", t, mut)
	}
	return mut == 1
}

func (m *module) readTables(r *reader) {
	for range r.count("tables", m.limits.Tables) {
		t := m.tableType(r)
		if !t.bounded || t.max > m.limits.TableEntries && t.max >= t.min {
			t.max, t.bounded = m.limits.TableEntries, true
		}
		m.tables = append(m.tables, t)
	}
}

func (m *module) readMemories(r *reader) {
	at := r.pos
	n := r.count("memories", m.limits.Types)
	if r.err == nil && n+int(m.importedMemories) > 1 {
		r.failAt(at, "a second memory (proposal \"multiple memories\") is not supported")
	}
	for range n {
		m.least = m.memoryType(r)
		m.memories++
	}
	m.memory = m.code[at:r.pos]
}

func (m *module) readGlobals(r *reader) {
	for range r.count("globals", m.limits.Types) {
		at := r.pos
		mutable := m.globalType(r)
		g := global{mutable: mutable, typ: m.code[at:r.pos]}
		g.init = m.constant(r)
		if r.err != nil {
			return
		}
		m.globals = append(m.globals, g)
	}
}

// constant reads a constant expression of Core 2.0: one instruction and its end.
func (m *module) constant(r *reader) constant {
	from := r.pos
	var c constant
	switch op := r.byte(); {
	case r.err != nil:
	case op == opI32Const:
		r.signed(32)
	case op == opI64Const:
		r.signed(64)
	case op == opF32Const:
		r.bytes(4)
	case op == opF64Const:
		r.bytes(8)
	case op == opGlobalGet:
		r.index("global", m.allGlobals())
	case op == opRefNull:
		if t := r.byte(); r.err == nil && !isRefType(t) {
			r.failAt(from, "%#x is no type of a reference", t)
		}
	case op == opRefFunc:
		c.isFunc, c.fn = true, r.index("function", m.allFuncs())
	case op == opPrefixFD:
		if sub := r.u32(); r.err == nil && sub != fdConst {
			r.failAt(from, "instruction 0xfd %d is not constant", sub)
		}
		r.bytes(16)
	default:
		r.failAt(from, "instruction %#x is not constant (the proposal \"extended constant expressions\" is not supported)", op)
	}
	if end := r.byte(); r.err == nil && end != opEnd {
		r.failAt(r.pos-1, "a constant expression has one instruction (the proposal \"extended constant expressions\" is not supported)")
	}
	c.code = m.code[from:r.pos]
	return c
}

func (m *module) readExports(r *reader) {
	n := r.count("exports", m.limits.Types)
	m.exports = make([]export, 0, n)
	for range n {
		at := r.pos
		e := export{name: r.name(), kind: r.byte()}
		switch e.kind {
		case kindFunc:
			e.index = r.index("function", m.allFuncs())
		case kindGlobal:
			e.index = r.index("global", m.allGlobals())
		default:
			e.index = r.u32()
		}
		switch {
		case r.err != nil:
			return
		case !utf8.ValidString(e.name):
			r.failAt(at, "the name of an export is not UTF-8")
		case e.kind == kindTag:
			r.failAt(at, "tags belong to the proposal \"exception handling\", which is not supported")
		case e.kind > kindTag:
			r.failAt(at, "%#x is no kind of an export", e.kind)
		}
		m.exports = append(m.exports, e)
	}
}

// readElements reads the eight forms of a segment: bit 0 says passive or declarative, bit 1 that a
// table or a kind is named, bit 2 that expressions follow instead of function indices.
func (m *module) readElements(r *reader) {
	for range r.count("segments of tables", m.limits.Types) {
		var e element
		at := r.pos
		flag := r.u32()
		if r.err == nil && flag > 7 {
			r.failAt(at, "%d is no form of a table's segment", flag)
		}
		active, named, exprs := flag&1 == 0, flag&2 != 0, flag&4 != 0
		if active && named {
			r.u32()
		}
		e.keep(m.code[at:r.pos])
		if active {
			e.parts = append(e.parts, m.constant(r))
		}
		from := r.pos
		if !active || named {
			if t := r.byte(); r.err == nil && (exprs && !isRefType(t) || !exprs && t != 0) {
				r.failAt(from, "%#x is no kind of a table's segment", t)
			}
		}
		n := r.count("entries of a segment", m.limits.DataBytes)
		e.keep(m.code[from:r.pos])
		for range n {
			if exprs {
				e.parts = append(e.parts, m.constant(r))
			} else {
				e.parts = append(e.parts, constant{isFunc: true, fn: r.index("function", m.allFuncs())})
			}
			if r.err != nil {
				return
			}
		}
		m.elems = append(m.elems, e)
	}
}

func (e *element) keep(code []byte) { e.parts = append(e.parts, constant{code: code}) }

func (m *module) readCode(r *reader) {
	at := r.pos
	n := r.count("functions with code", m.limits.Functions)
	if r.err == nil && n != len(m.funcs) {
		r.failAt(at, "%d functions are declared and %d have code", len(m.funcs), n)
	}
	m.bodies = make([]body, 0, n)
	for i := range n {
		at := r.pos
		size := int(r.u32())
		switch {
		case r.err != nil:
			return
		case size > m.limits.BodyBytes:
			r.failAt(at, "a function has %d bytes of code: at most %d are allowed", size, m.limits.BodyBytes)
			return
		case size > r.end-r.pos:
			r.failAt(at, "a function's %d bytes do not fit into the %d that are left", size, r.end-r.pos)
			return
		}
		sub := &reader{data: m.code, pos: r.pos, end: r.pos + size}
		m.bodies = append(m.bodies, m.readBody(sub, m.types[m.funcs[i]]))
		r.pos, r.err = sub.end, sub.err
	}
}

func (m *module) readData(r *reader) {
	from, total := r.pos, 0
	for range r.count("segments of data", m.limits.Types) {
		at := r.pos
		flag := r.u32()
		if r.err == nil && flag > 2 {
			r.failAt(at, "%d is no form of a segment of data", flag)
		}
		if flag == 2 {
			if r.u32() != 0 {
				r.failAt(at, "a second memory (proposal \"multiple memories\") is not supported")
			}
		}
		if flag != 1 {
			m.constant(r)
		}
		size := int(r.u32())
		if total += size; total > m.limits.DataBytes {
			r.failAt(at, "the segments of data have more than %d bytes", m.limits.DataBytes)
		}
		r.bytes(size)
		if r.err != nil {
			return
		}
	}
	m.data = m.code[from:r.pos]
}
