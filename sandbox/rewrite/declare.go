package rewrite

import "unicode/utf8"

// This file reads what a module declares: types, imports, functions, tables, memories, globals, exports.

func (m *module) readTypes(r *reader) {
	for range r.count("types", m.limits.Types) {
		if form := r.byte(); r.err == nil && form != 0x60 {
			r.refuse(r.pos-1, form, formProposals, "form of a type")
		}
		t := funcType{params: m.valTypes(r), results: m.valTypes(r)}
		if r.err != nil {
			return
		}
		m.types = append(m.types, t)
	}
}

func (m *module) valTypes(r *reader) []byte {
	n := r.count("types of values", min(m.limits.Passed, m.limits.TypeValues-m.values))
	m.values += n
	from := r.pos
	for range n {
		r.valType()
	}
	if r.err != nil {
		return nil
	}
	return m.code[from:r.pos:r.pos]
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
		if r.err != nil { // its kind may be none
			return
		}
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
		r.failProposal(r.pos-1, "the import of a tag", exceptions)
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
	case flag >= 16:
		r.failAt(at, "%#x is no kind of limits", flag)
	case flag&8 != 0:
		r.failProposal(at, "a memory with a page size", pageSizes)
	case flag&4 != 0:
		r.failProposal(at, "a memory or table with 64-bit limits", memory64)
	case flag&2 != 0:
		r.failProposal(at, "a shared memory or table", threads)
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
	elem := r.refType()
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
	r.valType()
	mut := r.byte()
	if r.err == nil && mut > 1 {
		r.failAt(r.pos-1, "%#x says neither that a global changes nor that it does not", mut)
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
		r.failProposal(at, "a second memory", multiMemory)
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
			r.failProposal(at, "the export of a tag", exceptions)
		case e.kind > kindTag:
			r.failAt(at, "%#x is no kind of an export", e.kind)
		}
		m.exports = append(m.exports, e)
	}
}
