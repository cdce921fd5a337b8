package rewrite

import "fmt"

// body is one function: its code as it came, and what is to be changed in it.
type body struct {
	localsEnd int // offset of the first instruction; the locals are kept as they are
	start     int // offset of the locals
	end       int
	groups    int // of locals, as written
	params    int
	locals    int     // declared ones
	regions   []int64 // weight of the code outside of loops, then of each loop without the loops in it
	edits     []edit
	callees   []callee
	calls     bool
	passed    int    // the most values, parameters and results together, that a call in it passes
	amounts   bool   // it has instructions that are charged by what they move
	block     []byte // type of the block that a body with loops is put into
}

// callee is a function that is called by name in a region.
type callee struct {
	region int
	fn     uint32
}

// edit replaces code[from:to].
type edit struct {
	from, to int
	kind     editKind
	arg      uint32
}

type editKind uint8

const (
	editFunc       editKind = iota // the index of the function arg
	editCall                       // a call of the function arg
	editIndirect                   // nothing, before a call of any function
	editReturn                     // becomes a branch out of arg blocks
	editLoop                       // becomes a loop that counts the rounds of region arg, in blocksOfLoop blocks
	editEnd                        // ends these
	editSimpleLoop                 // becomes such a loop, without blocks around
	editDepth                      // becomes arg: there are more blocks around than there were
	editRepeat                     // becomes a br out of arg blocks in an if
	editSize                       // becomes a look at the counted pages, if they are
	editGrow                       // becomes a call of the function that counts them
	editFill                       // becomes a call of the function that fills in pieces
	editCopy                       // and of that which copies
	editAmount                     // charge the amount on the stack, shifted by amountShift(arg), before what stands at from
)

// readBody decodes the function at the reader and finds what to change.
func (m *module) readBody(r *reader, typ funcType) body {
	b := body{start: r.pos, end: r.end, params: len(typ.params)}
	groups := r.count("groups of locals", m.limits.Locals)
	b.groups = groups
	for range groups {
		at := r.pos
		n := r.u32()
		r.valType()
		switch {
		case r.err != nil:
		case int64(n) > int64(m.limits.Locals-b.locals):
			r.failAt(at, "the function has more than %d locals, the most that are allowed", m.limits.Locals)
		case int(n) > m.limits.AllLocals-m.locals:
			r.failAt(at, "the functions have more than %d locals together, the most that are allowed", m.limits.AllLocals)
		default:
			b.locals += int(n)
			m.locals += int(n)
		}
		if r.err != nil {
			return b
		}
	}
	b.localsEnd = r.pos
	d := decoder{reader: r, m: m, b: &b}
	d.run()
	return b
}

// decoder walks the instructions of one function.
type decoder struct {
	*reader
	m      *module
	b      *body
	open   []frame // blocks around the instruction, the outermost first
	blocks int
}

type frame struct {
	op      byte
	counted bool // a loop that editLoop makes
	region  int
	added   uint32 // blocks that are added around those up to this one
}

func (d *decoder) run() {
	d.b.regions = []int64{0}
	d.open = append(d.open, frame{op: opBlock})
	for len(d.open) > 0 && d.err == nil {
		if !d.more() {
			d.fail("the function's code ends inside a block")
			return
		}
		d.instruction()
	}
	if d.err == nil && d.pos != d.end {
		d.fail("there is code after the function's end")
	}
	if d.err == nil && d.blocks > 0 && d.b.locals > d.m.limits.Complexity/d.blocks {
		d.failAt(d.b.start, "%d locals and %d blocks in one function would compile too slowly: their product may be %d", d.b.locals, d.blocks, d.m.limits.Complexity)
	}
}

// top is the innermost block, and here the region of the innermost loop.
func (d *decoder) top() *frame { return &d.open[len(d.open)-1] }
func (d *decoder) here() int   { return d.top().region }

func (d *decoder) edit(from int, kind editKind, arg uint32) {
	d.b.edits = append(d.b.edits, edit{from, d.pos, kind, arg})
}

func (d *decoder) instruction() {
	at := d.pos
	op := d.byte()
	d.b.regions[d.here()] += weight(op)
	switch {
	case op == opBlock, op == opLoop, op == opIf:
		d.enter(op)
	case op == opElse:
		if d.top().op != opIf {
			d.failAt(at, "an else is not inside an if")
		} else {
			d.top().op = opElse
		}
	case op == opEnd:
		d.leave()
	case op == opReturn:
		d.edit(at, editReturn, uint32(len(d.open)-1)+d.top().added)
	case op == opRefFunc:
		d.edit(at+1, editFunc, d.index("function", d.m.allFuncs()))
	case op == opCall:
		f := d.index("function", d.m.allFuncs())
		d.edit(at, editCall, f)
		d.b.callees = append(d.b.callees, callee{d.here(), f})
		d.call(d.m.typeOfFunc(f))
	case op == opCallIndirect:
		d.b.edits = append(d.b.edits, edit{at, at, editIndirect, 0})
		if t := d.index("type", len(d.m.types)); d.err == nil {
			d.call(d.m.types[t])
		}
		d.u32()
	case op >= opLocalGet && op <= opLocalTee:
		d.index("local", d.b.params+d.b.locals)
	case op == opGlobalGet, op == opGlobalSet:
		d.index("global", d.m.allGlobals())
	case op == opBr:
		d.branch()
	case op == opBrIf:
		d.branchIf(at)
	case op == opTableGet, op == opTableSet:
		d.u32()
		d.m.writesTables = d.m.writesTables || op == opTableSet
	case op == opBrTable:
		for range d.count("branches", d.m.limits.BranchTargets) {
			d.branch()
		}
		d.branch()
	case op == opSelectTyped:
		for range d.count("types", 1) {
			d.valType()
		}
	case op > opTableSet && op < opMemorySize:
		d.memoryArgument()
	case op == opMemorySize:
		d.zero()
		d.edit(at, editSize, 0)
	case op == opMemoryGrow:
		d.m.grows = true
		d.amount(at, amountPages)
		d.zero()
		d.edit(at, editGrow, 0)
	case op >= opI32Const && op <= opF64Const:
		d.number(op)
	case op == opRefNull:
		d.refType()
	case op == opPrefixFC:
		d.bulk(at)
	case op == opPrefixFD:
		d.vector(at)
	case op <= 0x01, op == opDrop, op == opSelect, op > opF64Const && op <= opLastNumeric, op == opRefIsNull:
	default:
		d.refuse(at, op, instructionProposals, "instruction")
	}
}

// call notes a call, which is charged for what it passes.
func (d *decoder) call(t funcType) {
	d.b.calls = true
	values := len(t.params) + len(t.results)
	d.b.passed = max(d.b.passed, values)
	d.b.regions[d.here()] += int64(values / valuesPerFuel)
}

// typeOfFunc is a function's type, and that of an import none: what the host gives passes little.
func (m *module) typeOfFunc(f uint32) funcType {
	if f < m.importedFuncs || int(f) >= m.allFuncs() {
		return funcType{}
	}
	return m.types[m.funcs[f-m.importedFuncs]]
}

// enter opens a block; a loop begins a region of its own.
func (d *decoder) enter(op byte) {
	start, at := d.pos-1, d.pos
	t := d.signed(33)
	switch {
	case d.err != nil:
	case t < -0x40 || t >= int64(len(d.m.types)):
		d.failAt(at, "%d is no type of a block", t)
	case t < 0 && t != -0x40 && !isValType(byte(t&0x7f)):
		d.refuse(at, byte(t&0x7f), typeProposals, "type of a value")
	}
	f := frame{op: op, region: d.here(), added: d.top().added}
	if op == opLoop {
		f.region = len(d.b.regions)
		d.b.regions = append(d.b.regions, 0)
		kind := editSimpleLoop
		if d.err == nil && (t < 0 || len(d.m.types[t].params) == 0) {
			kind, f.counted = editLoop, true
			f.added += blocksOfLoop
			d.blocks += blocksOfLoop
		}
		d.edit(start, kind, uint32(f.region))
	}
	d.blocks++
	d.open = append(d.open, f)
	if len(d.open) > d.m.limits.Nesting {
		d.fail("blocks are nested more than %d deep", d.m.limits.Nesting)
	}
}

// leave closes the innermost block.
func (d *decoder) leave() {
	if d.top().counted {
		d.edit(d.pos, editEnd, 0)
	}
	d.open = d.open[:len(d.open)-1]
}

// branch reads how many blocks a branch leaves, and changes it to what that becomes.
func (d *decoder) branch() {
	at := d.pos
	_, was, depth := d.target()
	if d.err == nil && depth > was {
		d.edit(at, editDepth, depth)
	}
}

// branchIf is branch for a br_if. One to the head of a loop becomes a br in an if, for which the engine
// makes better code: it goes on in a straight line where it would jump twice.
func (d *decoder) branchIf(start int) {
	at := d.pos
	to, was, depth := d.target()
	switch {
	case d.err != nil:
	case to.counted:
		d.edit(start, editRepeat, depth+1)
	case depth > was:
		d.edit(at, editDepth, depth)
	}
}

// target reads where a branch goes, and how deep that lies with the blocks that are added. A branch out of
// more blocks than there are is none in the module as it came, but might be one with these.
func (d *decoder) target() (to frame, was, depth uint32) {
	at := d.pos
	was = d.u32()
	if d.err == nil && uint64(was) >= uint64(len(d.open)) {
		d.failAt(at, "a branch out of %d blocks is in %d only", uint64(was)+1, len(d.open))
	}
	if d.err != nil {
		return frame{}, 0, 0
	}
	to = d.open[len(d.open)-1-int(was)]
	return to, was, was + d.top().added - to.added
}

func (d *decoder) memoryArgument() {
	at := d.pos
	if align := d.u32(); align >= 64 {
		d.failProposal(at, "a second memory", multiMemory)
	}
	d.u32()
}

// zero reads the index of a memory, a single byte.
func (d *decoder) zero() {
	at := d.pos
	if b := d.byte(); d.err == nil && b != 0 {
		d.failProposal(at, "a memory's index that is not 0", multiMemory)
	}
}

// amount has the number on the stack charged before the instruction at from.
func (d *decoder) amount(from int, kind uint32) {
	d.b.amounts = true
	d.b.edits = append(d.b.edits, edit{from, from, editAmount, kind})
}

func (d *decoder) bulk(at int) {
	switch sub := d.u32(); {
	case sub <= fcLastTrunc:
	case sub == fcMemoryInit:
		d.amount(at, amountBytes)
		d.u32()
		d.zero()
	case sub == fcMemoryCopy:
		d.m.copies, d.b.amounts = true, true
		d.zero()
		d.zero()
		d.edit(at, editCopy, 0)
	case sub == fcMemoryFill:
		d.m.fills, d.b.amounts = true, true
		d.zero()
		d.edit(at, editFill, 0)
	case sub == fcDataDrop, sub == fcElemDrop:
		d.m.dropsSegments = true
		d.u32()
	case sub == fcTableInit, sub == fcTableCopy:
		d.m.writesTables = true
		d.amount(at, amountEntries)
		d.u32()
		d.u32()
	case sub == fcTableGrow, sub == fcTableFill:
		d.m.writesTables = true
		d.m.growsTables = d.m.growsTables || sub == fcTableGrow
		d.amount(at, amountEntries)
		d.u32()
	case sub == fcTableSize:
		d.u32()
	case sub >= fcFirstWide && sub <= fcLastWide:
		d.failProposal(at, fmt.Sprintf("instruction 0xfc %d", sub), wideArithmetic)
	default:
		d.failAt(at, "0xfc %d is no instruction", sub)
	}
}

func (d *decoder) vector(at int) {
	switch sub := d.u32(); {
	case sub <= fdLastLoad:
		d.memoryArgument()
	case sub == fdConst, sub == fdShuffle:
		d.bytes(16)
	case sub >= fdFirstLane && sub <= fdLastLane:
		d.byte()
	case sub >= fdLoadLane && sub <= fdStoreLane:
		d.memoryArgument()
		d.byte()
	case sub > fdStoreLane && sub <= fdLoadZero:
		d.memoryArgument()
	case sub >= fdEnd:
		d.failProposal(at, fmt.Sprintf("instruction 0xfd %d", sub), relaxedVectors)
	}
}
