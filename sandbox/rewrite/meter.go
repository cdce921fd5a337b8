package rewrite

import "slices"

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

// lapCost is how much the loops of one call may use before it is taken from the fuel: until then it
// is counted in a local, which the engine keeps in a register. A global would cost a loop of a few
// instructions as much as its work.
const lapCost = 10_000

// A leaf calls nothing and has no loop. One that costs at most leafCost is not charged at its entry:
// its callers pay for it. Called indirectly it runs for nothing, and that is as good as nothing.
const leafCost = 64

// meter writes the instructions that are added to one function. Its scratch locals follow those that
// the function declares, as far as it needs them: an i64, an i32, and an i32 that counts what loops
// have used.
type meter struct {
	m                *module
	wide, small, lap uint32
	costs            []int64 // of each region
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
	b = op(b, opLocalTee, t.small)
	b = op(b, opGlobalGet, t.m.fuel)
	b = append(op(b, opLocalGet, t.small), opI64ExtendU)
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
	b = op(b, opLocalTee, t.wide)
	b = op(b, opGlobalSet, t.m.fuel)
	b = op(b, opLocalGet, t.wide)
	b = append(b, opI64Const, 0, opI64LtS, opIf, blockEmpty)
	b = op(b, opCall, t.m.tick)
	return append(b, opEnd)
}

// chargeLap counts a round of a loop.
func (t meter) chargeLap(b []byte, cost int64) []byte {
	b = op(b, opLocalGet, t.lap)
	b = append(appendS64(append(b, opI32Const), cost), opI32Add)
	b = op(b, opLocalTee, t.lap)
	b = append(appendS64(append(b, opI32Const), lapCost), opI32GtU, opIf, blockEmpty)
	b = op(b, opGlobalGet, t.m.fuel)
	b = append(op(b, opLocalGet, t.lap), opI64ExtendU)
	b = append(t.settle(b), opI32Const, 0)
	return append(op(b, opLocalSet, t.lap), opEnd)
}

// payLaps takes the rounds from the fuel that were only counted. The next charge ticks, if it must.
func (t meter) payLaps(b []byte) []byte {
	b = op(b, opGlobalGet, t.m.fuel)
	b = append(op(b, opLocalGet, t.lap), opI64ExtendU, opI64Sub)
	return op(b, opGlobalSet, t.m.fuel)
}

// enter takes a frame off the stack's budget and traps when it is used up.
func (t meter) enter(b []byte, frame int64) []byte {
	b = op(b, opGlobalGet, t.m.stack)
	b = append(appendS64(append(b, opI32Const), frame), opI32Sub)
	b = op(b, opLocalTee, t.small)
	b = op(b, opGlobalSet, t.m.stack)
	b = op(b, opLocalGet, t.small)
	b = append(b, opI32Const, 0, opI32LtS, opIf, blockEmpty)
	b = op(b, opCall, t.m.tick) // it may say why
	return append(b, opUnreachable, opEnd)
}

// leave gives the frame back.
func (t meter) leave(b []byte, frame int64) []byte {
	b = op(b, opGlobalGet, t.m.stack)
	b = append(appendS64(append(b, opI32Const), frame), opI32Add)
	return op(b, opGlobalSet, t.m.stack)
}

// function is the code of function i, with its locals. What must be done at its end is put behind a
// block that holds all of its code: what left the function leaves the block.
func (m *module) function(i int) []byte {
	src := &m.bodies[i]
	b := make([]byte, 0, src.end-src.start+64+32*len(src.edits))
	b, t := m.declare(b, src)
	guarded, loops := m.guards(src), src.loops()
	frame := int64(frameBytes + localBytes*(src.params+src.locals))
	if guarded {
		b = t.enter(b, frame)
	}
	if !src.leaf() {
		b = t.charge(b, t.costs[0])
	}
	if src.block != nil {
		b = append(append(b, opBlock), src.block...)
	}
	at := src.localsEnd
	for _, e := range src.edits {
		b = append(b, m.code[at:e.from]...)
		b, at = m.apply(b, t, src, e), e.to
	}
	b = append(b, m.code[at:src.end]...)
	if loops {
		b = t.payLaps(b)
	}
	if guarded {
		b = t.leave(b, frame)
	}
	if src.block != nil {
		b = append(b, opEnd)
	}
	return b
}

func (m *module) guards(b *body) bool { return m.guarded && b.calls }

func (b *body) loops() bool { return len(b.regions) > 1 }

// leaf says whether callers pay for the function.
func (b *body) leaf() bool {
	return !b.calls && !b.amounts && !b.loops() && b.regions[0] <= leafCost
}

// declare copies the locals and adds the scratch ones that are needed.
func (m *module) declare(b []byte, src *body) ([]byte, meter) {
	var added []byte
	next, groups := uint32(src.params+src.locals), src.groups
	local := func(wanted bool, typ byte) (index uint32) {
		if wanted {
			added = append(added, 1, typ)
			groups++
			index = next
			next++
		}
		return index
	}
	t := meter{m: m, costs: m.costs(src)}
	t.wide = local(!src.leaf(), typeI64)
	t.small = local(m.guards(src) || src.amounts, typeI32)
	t.lap = local(src.loops(), typeI32)
	r := reader{data: m.code, pos: src.start, end: src.localsEnd}
	r.u32()
	b = appendU32(b, uint32(groups))
	b = append(b, m.code[r.pos:src.localsEnd]...)
	return append(b, added...), t
}

// apply writes what stands instead of an edit's code.
func (m *module) apply(b []byte, t meter, src *body, e edit) []byte {
	switch e.kind {
	case editFunc:
		return appendU32(b, m.funcIndex(e.arg))
	case editLoop:
		return t.chargeLap(b, t.costs[e.arg])
	case editAmount:
		return t.chargeAmount(b, e.arg)
	case editSize, editGrow:
		return m.sizing(b, e)
	}
	if src.block != nil {
		return op(b, opBr, e.arg)
	}
	return append(b, opReturn)
}

// costs are what a round of each region costs, with the leaves that it calls.
func (m *module) costs(b *body) []int64 {
	costs := slices.Clone(b.regions)
	for _, c := range b.callees {
		if c.fn < m.importedFuncs {
			continue
		}
		if callee := &m.bodies[c.fn-m.importedFuncs]; callee.leaf() {
			costs[c.region] += callee.regions[0]
		}
	}
	return costs
}

// funcIndex is where a function is found in the new module: behind the added import, if it was not
// an import itself.
func (m *module) funcIndex(i uint32) uint32 {
	if i >= m.importedFuncs {
		i++
	}
	return i
}
