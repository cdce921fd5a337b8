package rewrite

import "slices"

// What an instruction that moves amounts is charged by: a unit of fuel for 16 bytes, for an entry of
// a table, and 2,048 for a page of 64 KiB, which must be cleared.
const (
	amountBytes uint32 = iota
	amountEntries
	amountPages
)

const valuesPerFuel = 4 // that a call passes

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
// is counted down in a local, which the engine keeps in a register. A global would cost a loop of a few
// instructions as much as its work.
const lapCost = 10_000

// A leaf calls nothing and has no loop. One that costs at most leafCost is not charged at its entry:
// its callers pay for it. Called indirectly it runs for nothing, and that is as good as nothing.
const leafCost = 64

// meter writes the instructions that are added to one function. Its scratch locals follow those that
// the function declares, as far as it needs them.
type meter struct {
	m           *module
	wide, small uint32  // an i64 and an i32
	lap         uint32  // an i32: what loops may use before it is charged
	left        uint32  // an i32: what is left of the stack
	costs       []int64 // of each region
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
	b = op(t.spend(b), opLocalGet, t.wide)
	b = append(b, opI64Const, 0, opI64LtS, opIf, blockEmpty)
	b = op(b, opCall, t.m.tick)
	return append(b, opEnd)
}

// spend is settle without the tick; what is left is in wide.
func (t meter) spend(b []byte) []byte {
	return op(op(append(b, opI64Sub), opLocalTee, t.wide), opGlobalSet, t.m.fuel)
}

// beginLoop begins a loop that counts its rounds. When they are many it is left for code behind it, which
// charges them, and begun again by a loop around both:
//
//	block
//	  loop
//	    block
//	      loop  (as it was)
//	        br_if 1, when there were many rounds
//	        …
//	      end
//	      br 2
//	    end
//	    charge
//	    br 0
//	  end
//	end
//
// That is a lot of text for a call of tick, but inside of the loop a call would have the engine keep what
// the loop works with in memory, since it saves no registers across calls, and go round it by a branch.
func (t meter) beginLoop(b, typ []byte, cost int64) []byte {
	b = append(append(b, opBlock), typ...)
	b = append(b, opLoop, blockEmpty, opBlock, blockEmpty)
	b = append(append(b, opLoop), typ...)
	b = append(t.lapsUsed(b), opBrIf, 1)
	return t.countLap(b, cost)
}

func (t meter) endLoop(b []byte) []byte {
	b = append(b, opBr, 2, opEnd)
	return append(t.chargeLaps(b), opBr, 0, opEnd, opUnreachable, opEnd)
}

// blocksOfLoop are those that beginLoop puts around a loop.
const blocksOfLoop = 3

// simpleLoop counts the rounds of a loop that takes values from the stack, which hardly any compiler
// makes and which would have to go through all those blocks.
func (t meter) simpleLoop(b, typ []byte, cost int64) []byte {
	b = append(append(b, opLoop), typ...)
	b = append(t.lapsUsed(b), opIf, blockEmpty)
	b = append(t.chargeLaps(b), opEnd)
	return t.countLap(b, cost)
}

// countLap counts a round, before the next of which lapsUsed tells whether there were many.
func (t meter) countLap(b []byte, cost int64) []byte {
	b = op(b, opLocalGet, t.lap)
	b = append(appendS64(append(b, opI32Const), cost), opI32Sub)
	return op(b, opLocalSet, t.lap)
}

func (t meter) lapsUsed(b []byte) []byte {
	return append(op(b, opLocalGet, t.lap), opI32Const, 0, opI32LtS)
}

// allowLaps begins to count.
func (t meter) allowLaps(b []byte) []byte {
	return op(appendS64(append(b, opI32Const), t.m.laps), opLocalSet, t.lap)
}

// fuelAndLaps puts the fuel on the stack, and what loops have used of it since.
func (t meter) fuelAndLaps(b []byte) []byte {
	b = op(b, opGlobalGet, t.m.fuel)
	b = appendS64(append(b, opI32Const), t.m.laps)
	return append(op(b, opLocalGet, t.lap), opI32Sub, opI64ExtendU)
}

// chargeLaps takes the rounds from the fuel, and begins to count anew.
func (t meter) chargeLaps(b []byte) []byte { return t.allowLaps(t.settle(t.fuelAndLaps(b))) }

// payLaps takes the rounds from the fuel that were only counted. The next charge ticks, if it must.
func (t meter) payLaps(b []byte) []byte {
	return op(append(t.fuelAndLaps(b), opI64Sub), opGlobalSet, t.m.fuel)
}

// enter takes a frame off what the caller has left of the stack, and the cost off the fuel. It ticks when either
// is used up, and traps when that was the stack. One branch looks at both signs: every call goes by here.
func (t meter) enter(b []byte, frame, cost int64) []byte {
	b = op(b, opGlobalGet, t.m.stack)
	b = append(appendS64(append(b, opI32Const), frame), opI32Sub)
	b = op(b, opLocalSet, t.left)
	b = op(b, opGlobalGet, t.m.fuel)
	b = t.spend(appendS64(append(b, opI64Const), cost))
	b = append(op(op(b, opLocalGet, t.wide), opLocalGet, t.left), opI64ExtendS, opI64Or)
	b = append(b, opI64Const, 0, opI64LtS, opIf, blockEmpty)
	b = op(t.lend(b), opCall, t.m.tick) // it may say why
	b = append(op(b, opLocalGet, t.left), opI32Const, 0, opI32LtS, opIf, blockEmpty)
	return append(b, opUnreachable, opEnd, opEnd)
}

// lend tells who is called next how much of the stack is left. Nobody gives it back: whoever calls says it
// anew, which costs less than to put it right at every end of a function.
func (t meter) lend(b []byte) []byte {
	return op(op(b, opLocalGet, t.left), opGlobalSet, t.m.stack)
}

// function is the code of function i, with its locals. What loops have used is paid at its end, behind a block
// that holds all of its code: what left the function leaves the block.
func (m *module) function(i int) []byte {
	src := &m.bodies[i]
	b := make([]byte, 0, src.end-src.start+64+32*len(src.edits))
	b, t := m.declare(b, src)
	loops := src.loops()
	switch {
	case m.guards(src):
		b = t.enter(b, int64(frameBytes+localBytes*(src.params+src.locals+src.passed)), t.costs[0])
	case !src.leaf():
		b = t.charge(b, t.costs[0])
	}
	if loops {
		b = t.allowLaps(b)
		b = append(append(b, opBlock), src.block...)
	}
	at := src.localsEnd
	for _, e := range src.edits {
		b = append(b, m.code[at:e.from]...)
		b, at = m.apply(b, t, src, e), e.to
	}
	b = append(b, m.code[at:src.end]...)
	if loops {
		b = append(t.payLaps(b), opEnd)
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
	t.small = local(src.amounts, typeI32)
	t.lap = local(src.loops(), typeI32)
	t.left = local(m.guards(src), typeI32)
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
	case editCall:
		return op(m.lends(b, t, e.arg), opCall, m.funcIndex(e.arg))
	case editIndirect:
		return m.lendsAny(b, t)
	case editLoop:
		return t.beginLoop(b, m.code[e.from+1:e.to], t.costs[e.arg])
	case editEnd:
		return t.endLoop(b)
	case editSimpleLoop:
		return t.simpleLoop(b, m.code[e.from+1:e.to], t.costs[e.arg])
	case editDepth:
		return appendU32(b, e.arg)
	case editRepeat:
		return append(op(append(b, opIf, blockEmpty), opBr, e.arg), opEnd)
	case editAmount:
		return t.chargeAmount(b, e.arg)
	case editFill:
		return op(b, opCall, m.fill)
	case editCopy:
		return op(b, opCall, m.copy)
	case editSize, editGrow:
		return m.sizing(b, e)
	}
	if src.block != nil {
		return op(b, opBr, e.arg)
	}
	return append(b, opReturn)
}

// lends lends the stack to a function that is called by name, if that looks at it.
func (m *module) lends(b []byte, t meter, fn uint32) []byte {
	if fn < m.importedFuncs || !m.guards(&m.bodies[fn-m.importedFuncs]) {
		return b
	}
	return t.lend(b)
}

// lendsAny lends it to a function that only the running module knows.
func (m *module) lendsAny(b []byte, t meter) []byte {
	if !m.guarded {
		return b
	}
	return t.lend(b)
}

// maxCost is the most that a round may cost: laps are counted in an i32.
const maxCost = 1 << 30

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
	for i := range costs {
		costs[i] = min(costs[i], maxCost)
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
