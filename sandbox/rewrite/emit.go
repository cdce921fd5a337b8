package rewrite

// emit writes the new module. Lengths come before contents, so each section is made first.
func (m *module) emit(o Options) []byte {
	out := make([]byte, 0, len(m.code)+len(m.code)/4)
	out = append(append(out, magic...), version...)
	out = section(out, secType, m.emitTypes())
	out = section(out, secImport, m.emitImports())
	out = section(out, secFunction, m.emitFunctions())
	out = section(out, secTable, m.emitTables())
	out = section(out, secMemory, m.memory)
	out = section(out, secGlobal, m.emitGlobals(o))
	out = section(out, secExport, m.emitExports())
	out = section(out, secElement, m.emitElements())
	out = section(out, secDataCount, m.count)
	out = section(out, secCode, m.emitCode())
	out = section(out, secData, m.data)
	if names := m.emitNames(); names != nil {
		out = section(out, secCustom, append(appendName(nil, "name"), names...))
	}
	return out
}

// section writes one unless it is empty.
func section(out []byte, id byte, content []byte) []byte {
	if len(content) == 0 {
		return out
	}
	out = appendU32(append(out, id), uint32(len(content)))
	return append(out, content...)
}

func (m *module) emitTypes() []byte {
	b := appendU32(nil, uint32(len(m.types)))
	for _, t := range m.types {
		b = append(b, 0x60)
		b = append(appendU32(b, uint32(len(t.params))), t.params...)
		b = append(appendU32(b, uint32(len(t.results))), t.results...)
	}
	return b
}

func (m *module) emitImports() []byte {
	b := appendU32(nil, uint32(len(m.imports)+1))
	for _, i := range m.imports {
		b = append(b, m.code[i.from:i.to]...)
	}
	b = appendName(appendName(b, TickModule), TickName)
	return appendU32(append(b, kindFunc), m.tickType)
}

func (m *module) emitFunctions() []byte {
	if m.allBodies() == 0 {
		return nil
	}
	b := appendU32(nil, m.allBodies())
	for _, t := range m.funcs {
		b = appendU32(b, t)
	}
	for _, f := range m.addedFuncs {
		b = appendU32(b, f.typ)
	}
	return b
}

func (m *module) emitTables() []byte {
	if len(m.tables) == 0 {
		return nil
	}
	b := appendU32(nil, uint32(len(m.tables)))
	for _, t := range m.tables {
		b = append(b, t.elem, 1)
		b = appendU32(appendU32(b, t.min), t.max)
	}
	return b
}

func (m *module) emitGlobals(o Options) []byte {
	b := appendU32(nil, uint32(len(m.globals))+m.addedGlobals)
	for _, g := range m.globals {
		b = append(b, g.typ...)
		b = m.emitConstant(b, g.init)
	}
	b = append(b, typeI64, 1, opI64Const, 0, opEnd)
	if m.guarded {
		b = counter(b, int64(o.StackBytes))
	}
	if m.virtual() {
		b = counter(b, int64(m.least))
	}
	return b
}

// counter is a mutable i32 global.
func counter(b []byte, start int64) []byte {
	return append(appendS64(append(b, typeI32, 1, opI32Const), start), opEnd)
}

func (m *module) emitConstant(b []byte, c constant) []byte {
	if !c.isFunc {
		return append(b, c.code...)
	}
	return append(op(b, opRefFunc, m.funcIndex(c.fn)), opEnd)
}

func (m *module) emitExports() []byte {
	b := appendU32(nil, uint32(len(m.exports)+len(m.added)))
	for _, e := range m.exports {
		if e.kind == kindFunc {
			e.index = m.funcIndex(e.index)
		}
		b = appendExport(b, e)
	}
	for _, e := range m.added {
		b = appendExport(b, e)
	}
	return b
}

func appendExport(b []byte, e export) []byte {
	return appendU32(append(appendName(b, e.name), e.kind), e.index)
}

func (m *module) emitElements() []byte {
	if len(m.elems) == 0 {
		return nil
	}
	b := appendU32(nil, uint32(len(m.elems)))
	for _, e := range m.elems {
		for _, p := range e.parts {
			if p.isFunc && p.code == nil { // an index alone
				b = appendU32(b, m.funcIndex(p.fn))
				continue
			}
			b = m.emitConstant(b, p)
		}
	}
	return b
}

func (m *module) emitCode() []byte {
	if m.allBodies() == 0 {
		return nil
	}
	b := appendU32(nil, m.allBodies())
	for i := range m.bodies {
		b = appendBody(b, m.function(i))
	}
	for _, f := range m.addedFuncs {
		b = appendBody(b, f.code)
	}
	return b
}

func appendBody(b, code []byte) []byte { return append(appendU32(b, uint32(len(code))), code...) }

// allBodies is how many functions have code, the added ones included.
func (m *module) allBodies() uint32 { return uint32(len(m.funcs) + len(m.addedFuncs)) }

// Parts of the name section that are kept (https://www.w3.org/TR/wasm-core-2/#name-section%E2%91%A0):
// traps show them.
const (
	namesModule = 0
	namesFuncs  = 1
)

// emitNames renumbers the functions' names. A name section that is damaged is dropped: names are no
// part of what a module does.
func (m *module) emitNames() []byte {
	r := &reader{data: m.names, end: len(m.names)}
	var b []byte
	for r.more() {
		id := r.byte()
		size := int(r.u32())
		content := r.bytes(size)
		if r.err != nil {
			return nil
		}
		sub := &reader{data: content, end: len(content)}
		switch id {
		case namesModule:
		case namesFuncs:
			content = m.renumber(sub)
		default:
			continue
		}
		if sub.err != nil {
			return nil
		}
		b = append(appendU32(append(b, id), uint32(len(content))), content...)
	}
	return b
}

// renumber copies a map from functions to names. It has no more names than there are functions.
func (m *module) renumber(r *reader) []byte {
	n := r.count("names", m.allFuncs())
	b := appendU32(nil, uint32(n))
	for range n {
		b = appendU32(b, m.funcIndex(r.u32()))
		b = appendName(b, r.name())
		if r.err != nil {
			return nil
		}
	}
	return b
}
