package rewrite

// What an instruction that moves amounts is charged by: a unit of fuel for 16 bytes, for an entry of
// a table, and 2,048 for a page of 64 KiB, which must be cleared.
const (
	amountBytes uint32 = iota
	amountEntries
	amountPages
)

const (
	bytesShift = 4
	pagesShift = 11
)

// Frames are counted in bytes, roughly as the engine's compiler lays them out.
const (
	frameBytes = 64
	localBytes = 8
)

// meter writes the instructions that are added to one function. Its scratch locals follow those that
// the function declares: an i64, and an i32 where amounts or frames are counted.
type meter struct {
	m       *module
	scratch uint32 // index of the i64; the i32 is the next
}

func op(b []byte, code byte, arg uint32) []byte { return appendU32(append(b, code), arg) }

// charge subtracts what the code after it costs, and ticks when nothing is left.
func (t meter) charge(b []byte, cost int64) []byte {
	b = op(b, opGlobalGet, t.m.fuel)
	b = appendS64(append(b, opI64Const), cost)
	return t.settle(b)
}

// chargeAmount does the same for the number on top of the stack, which stays there.
func (t meter) chargeAmount(b []byte, kind uint32) []byte {
	b = op(b, opLocalTee, t.scratch+1)
	b = op(b, opGlobalGet, t.m.fuel)
	b = op(b, opLocalGet, t.scratch+1)
	b = append(b, opI64ExtendU)
	switch kind {
	case amountBytes:
		b = append(appendS64(append(b, opI64Const), bytesShift), opI64ShrU)
	case amountPages:
		b = append(appendS64(append(b, opI64Const), pagesShift), opI64Shl)
	}
	return t.settle(b)
}

// settle takes (fuel, cost) from the stack.
func (t meter) settle(b []byte) []byte {
	b = append(b, opI64Sub)
	b = op(b, opLocalTee, t.scratch)
	b = op(b, opGlobalSet, t.m.fuel)
	b = op(b, opLocalGet, t.scratch)
	b = append(b, opI64Const, 0, opI64LtS, opIf, blockEmpty)
	b = op(b, opCall, t.m.tick)
	return append(b, opEnd)
}

// enter takes a frame off the stack's budget and traps when it is used up.
func (t meter) enter(b []byte, frame int64) []byte {
	b = op(b, opGlobalGet, t.m.stack)
	b = appendS64(append(b, opI32Const), frame)
	b = append(b, opI32Sub)
	b = op(b, opLocalTee, t.scratch+1)
	b = op(b, opGlobalSet, t.m.stack)
	b = op(b, opLocalGet, t.scratch+1)
	return append(b, opI32Const, 0, opI32LtS, opIf, blockEmpty, opUnreachable, opEnd)
}

// leave gives the frame back.
func (t meter) leave(b []byte, frame int64) []byte {
	b = op(b, opGlobalGet, t.m.stack)
	b = appendS64(append(b, opI32Const), frame)
	b = append(b, opI32Add)
	return op(b, opGlobalSet, t.m.stack)
}

// function is the code of function i, with its locals.
func (m *module) function(i int) []byte {
	src := &m.bodies[i]
	guarded := m.guarded && src.calls
	t := meter{m, uint32(src.params + src.locals)}
	b := make([]byte, 0, src.end-src.start+64+32*len(src.edits))
	b = m.declare(b, src, guarded)
	frame := int64(frameBytes + localBytes*(src.params+src.locals))
	if guarded {
		b = t.enter(b, frame)
		b = append(append(b, opBlock), src.block...)
	}
	b = t.charge(b, src.regions[0])
	at := src.localsEnd
	for _, e := range src.edits {
		b = append(b, m.code[at:e.from]...)
		b, at = m.apply(b, t, src, e, guarded), e.to
	}
	b = append(b, m.code[at:src.end]...)
	if guarded {
		b = append(t.leave(b, frame), opEnd)
	}
	return b
}

// declare copies the locals and adds the scratch ones.
func (m *module) declare(b []byte, src *body, guarded bool) []byte {
	small := guarded || src.amounts
	groups := src.groups + 1
	if small {
		groups++
	}
	b = appendU32(b, uint32(groups))
	r := reader{data: m.code, pos: src.start, end: src.localsEnd}
	r.u32()
	b = append(b, m.code[r.pos:src.localsEnd]...)
	b = append(b, 1, typeI64)
	if small {
		b = append(b, 1, typeI32)
	}
	return b
}

// apply writes what stands instead of an edit's code.
func (m *module) apply(b []byte, t meter, src *body, e edit, guarded bool) []byte {
	switch e.kind {
	case editFunc:
		return appendU32(b, m.funcIndex(e.arg))
	case editLoop:
		return t.charge(b, src.regions[e.arg])
	case editAmount:
		return t.chargeAmount(b, e.arg)
	}
	if guarded {
		return op(b, opBr, e.arg)
	}
	return append(b, opReturn)
}

// funcIndex is where a function is found in the new module: behind the added import, if it was not
// an import itself.
func (m *module) funcIndex(i uint32) uint32 {
	if i >= m.importedFuncs {
		i++
	}
	return i
}
