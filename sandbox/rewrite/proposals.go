package rewrite

import "fmt"

// What is not in Core 2.0 is refused by the name of its proposal, so that whoever built the module
// knows which switch of the compiler to turn off (https://github.com/WebAssembly/proposals).
const (
	threads          = "threads"
	exceptions       = "exception handling"
	tailCalls        = "tail calls"
	functionRefs     = "typed function references"
	garbage          = "garbage collection"
	stackSwitching   = "stack switching"
	multiMemory      = "multiple memories"
	memory64         = "64-bit memories"
	pageSizes        = "custom page sizes"
	relaxedVectors   = "relaxed vectors"
	extendedConstant = "extended constant expressions"
	wideArithmetic   = "wide arithmetic"
)

// instructionProposals has instructions by their first byte.
var instructionProposals = map[byte]string{
	0x06: exceptions, 0x07: exceptions, 0x08: exceptions, 0x09: exceptions, 0x0a: exceptions, 0x18: exceptions, 0x19: exceptions, 0x1f: exceptions,
	0x12: tailCalls, 0x13: tailCalls,
	0x14: functionRefs, 0x15: functionRefs, 0xd4: functionRefs, 0xd5: functionRefs, 0xd6: functionRefs,
	0xd3: garbage, 0xfb: garbage,
	0xe0: stackSwitching, 0xe1: stackSwitching, 0xe2: stackSwitching, 0xe3: stackSwitching, 0xe4: stackSwitching, 0xe5: stackSwitching, 0xe6: stackSwitching,
	0xfe: threads,
}

// typeProposals has types of values.
var typeProposals = map[byte]string{
	0x63: functionRefs, 0x64: functionRefs,
	0x6a: garbage, 0x6b: garbage, 0x6c: garbage, 0x6d: garbage, 0x6e: garbage, 0x71: garbage, 0x72: garbage, 0x73: garbage,
	0x69: exceptions, 0x74: exceptions,
	0x68: stackSwitching, 0x75: stackSwitching,
}

// formProposals has what the type section may hold beside functions.
var formProposals = map[byte]string{
	0x4e: garbage, 0x4f: garbage, 0x50: garbage, 0x5e: garbage, 0x5f: garbage, 0x5d: stackSwitching,
}

// failProposal refuses what belongs to a proposal.
func (r *reader) failProposal(at int, what, proposal string) {
	r.failAt(at, "%s belongs to the proposal %q, which is not supported", what, proposal)
}

// refuse refuses a byte that is nothing of what is expected, by the name of its proposal if it has one.
func (r *reader) refuse(at int, b byte, proposals map[byte]string, what string) {
	if name, ok := proposals[b]; ok {
		r.failProposal(at, fmt.Sprintf("%s %#x", what, b), name)
		return
	}
	r.failAt(at, "%#x is no %s", b, what)
}

func (r *reader) valType() {
	if t := r.byte(); r.err == nil && !isValType(t) {
		r.refuse(r.pos-1, t, typeProposals, "type of a value")
	}
}

func (r *reader) refType() byte {
	t := r.byte()
	if r.err == nil && !isRefType(t) {
		r.refuse(r.pos-1, t, typeProposals, "type of a reference")
	}
	return t
}
