package rewrite

import "fmt"

// This file reads what fills a module: constants, segments, code.

// constant reads a constant expression of Core 2.0: one instruction and its end.
func (m *module) constant(r *reader) constant {
	from := r.pos
	var c constant
	switch op := r.byte(); {
	case r.err != nil:
	case op >= opI32Const && op <= opF64Const:
		r.number(op)
	case op == opGlobalGet:
		r.index("global", m.allGlobals())
	case op == opRefNull:
		r.refType()
	case op == opRefFunc:
		c.isFunc, c.fn = true, r.index("function", m.allFuncs())
	case op == opPrefixFD:
		if sub := r.u32(); r.err == nil && sub != fdConst {
			r.failAt(from, "instruction 0xfd %d is not constant", sub)
		}
		r.bytes(16)
	default:
		r.failProposal(from, fmt.Sprintf("instruction %#x in a constant", op), extendedConstant)
	}
	if end := r.byte(); r.err == nil && end != opEnd {
		r.failProposal(r.pos-1, "a constant of several instructions", extendedConstant)
	}
	c.code = m.code[from:r.pos]
	return c
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
		switch {
		case active && !named:
		case exprs:
			r.refType()
		default:
			if t := r.byte(); r.err == nil && t != 0 {
				r.failAt(from, "%#x is no kind of a table's segment", t)
			}
		}
		n := r.count("entries of tables' segments", m.limits.Elements-m.entries)
		m.entries += n
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
				r.failProposal(at, "a second memory", multiMemory)
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
