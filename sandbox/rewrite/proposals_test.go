package rewrite

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestProposalsAreRefusedByNameAndPlace has a module for each way into a proposal. What must be named
// is at the mark, the bytes that the test puts there once.
func TestProposalsAreRefusedByNameAndPlace(t *testing.T) {
	code := func(code ...byte) []byte {
		return moduleDef{memory: []byte{1, 0, 1}, funcs: []funcDef{fn(code...)}}.bytes()
	}
	types := func(form ...byte) []byte {
		return cat(magic, version, section(nil, secType, append([]byte{1}, form...)))
	}
	memory := func(limits ...byte) []byte { return moduleDef{memory: append([]byte{1}, limits...)}.bytes() }
	cases := []struct {
		proposal string
		code     []byte
		mark     []byte
	}{
		{threads, memory(3, 0x71, 0x71), []byte{3, 0x71}},
		{threads, moduleDef{imports: vec(imp("e", "m", kindMemory, 3, 0x71, 0x71))}.bytes(), []byte{3, 0x71}},
		{threads, code(0xfe, 0x10, 0x71, 0), []byte{0xfe, 0x10}},
		{memory64, memory(4, 0x71), []byte{4, 0x71}},
		{memory64, memory(5, 0x71, 0x71), []byte{5, 0x71}},
		{memory64, memory(7, 0x71, 0x71), []byte{7, 0x71}},
		{memory64, moduleDef{tables: []byte{1, typeFuncref, 4, 0x71}}.bytes(), []byte{4, 0x71}},
		{pageSizes, memory(8, 0x71, 0), []byte{8, 0x71}},
		{multiMemory, moduleDef{memory: []byte{2, 0, 0x71, 0, 0x71}}.bytes(), []byte{2, 0, 0x71}},
		{multiMemory, moduleDef{imports: vec(imp("e", "m", kindMemory, 0, 1)), memory: []byte{1, 0, 0x71}}.bytes(), []byte{1, 0, 0x71}},
		{multiMemory, code(opI32Const, 0, 0x28, 0x41, 1, 0x71), []byte{0x41, 1, 0x71}},
		{multiMemory, code(opMemorySize, 0x71), []byte{0x71}},
		{multiMemory, code(opMemoryGrow, 0x71), []byte{0x71}},
		{multiMemory, code(opPrefixFC, fcMemoryInit, 0, 0x71), []byte{0x71}},
		{multiMemory, code(opPrefixFC, fcMemoryCopy, 0, 0x71), []byte{0x71}},
		{multiMemory, code(opPrefixFC, fcMemoryCopy, 0x71, 0), []byte{0x71}},
		{multiMemory, code(opPrefixFC, fcMemoryFill, 0x71), []byte{0x71}},
		{multiMemory, moduleDef{memory: []byte{1, 0, 1}, data: []byte{1, 2, 0x71, opI32Const, 0, opEnd, 0}}.bytes(), []byte{2, 0x71}},
		{tailCalls, code(0x12, 0x71), []byte{0x12, 0x71}},
		{tailCalls, code(0x13, 0x71, 0), []byte{0x13, 0x71}},
		{exceptions, code(0x06, 0x71), []byte{0x06, 0x71}},
		{exceptions, code(0x07, 0x71), []byte{0x07, 0x71}},
		{exceptions, code(0x08, 0x71), []byte{0x08, 0x71}},
		{exceptions, code(0x09, 0x71), []byte{0x09, 0x71}},
		{exceptions, code(0x0a, 0x71), []byte{0x0a, 0x71}},
		{exceptions, code(0x18, 0x71), []byte{0x18, 0x71}},
		{exceptions, code(0x19, 0x71), []byte{0x19, 0x71}},
		{exceptions, code(0x1f, 0x71), []byte{0x1f, 0x71}},
		{exceptions, cat(magic, version, []byte{secTag, 1, 0x71}), []byte{secTag, 1, 0x71}},
		{exceptions, moduleDef{imports: vec(imp("e", "t", kindTag, 0x71))}.bytes(), []byte{kindTag, 0x71}},
		{exceptions, moduleDef{exports: []export{{"tagged", kindTag, 0}}}.bytes(), appendName(nil, "tagged")},
		{exceptions, types(0x60, 1, 0x69, 0), []byte{0x69}},
		{functionRefs, code(0x14, 0x71), []byte{0x14, 0x71}},
		{functionRefs, code(0x15, 0x71), []byte{0x15, 0x71}},
		{functionRefs, code(0xd4), []byte{0xd4}},
		{functionRefs, code(0xd5, 0), []byte{0xd5}},
		{functionRefs, code(0xd6, 0), []byte{0xd6}},
		{functionRefs, types(0x60, 1, 0x64, 0), []byte{0x64}},
		{functionRefs, moduleDef{funcs: []funcDef{{locals: []byte{1, 1, 0x63}, code: []byte{opEnd}}}}.bytes(), []byte{0x63}},
		{garbage, code(0xfb, 0x71), []byte{0xfb, 0x71}},
		{garbage, code(0xd3), []byte{0xd3}},
		{garbage, code(opBlock, 0x6e, opEnd), []byte{0x6e}},
		{garbage, code(opRefNull, 0x6d, opDrop), []byte{0x6d}},
		{garbage, types(0x5f, 0), []byte{0x5f}},
		{garbage, types(0x5e, typeI32, 0), []byte{0x5e}},
		{garbage, types(0x4e, 0), []byte{0x4e}},
		{garbage, types(0x50, 0), []byte{0x50}},
		{garbage, moduleDef{globals: []byte{1, 0x6b, 0}}.bytes(), []byte{0x6b, 0}},
		{garbage, moduleDef{tables: []byte{1, 0x6c, 0, 0}}.bytes(), []byte{0x6c, 0}},
		{stackSwitching, code(0xe2, 0x71), []byte{0xe2, 0x71}},
		{stackSwitching, types(0x5d, 0), []byte{0x5d}},
		{relaxedVectors, code(opPrefixFD, 0x80, 0x02), []byte{opPrefixFD, 0x80}},
		{relaxedVectors, code(opPrefixFD, 0x93, 0x02), []byte{opPrefixFD, 0x93}},
		{wideArithmetic, code(opPrefixFC, 19), []byte{opPrefixFC, 19}},
		{wideArithmetic, code(opPrefixFC, 22), []byte{opPrefixFC, 22}},
		{extendedConstant, moduleDef{globals: vec([]byte{typeI32, 0, opI32Const, 0x31, opI32Const, 1, opI32Add, opEnd})}.bytes(), []byte{opI32Const, 1}},
		{extendedConstant, moduleDef{globals: vec([]byte{typeI32, 0, opI32Add, opEnd})}.bytes(), []byte{opI32Add}},
	}
	for _, c := range cases {
		_, err := Module(c.code, options())
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Reason, `the proposal "`+c.proposal+`", which is not supported`) {
			t.Errorf("% x: %v, want the proposal %q", c.mark, err, c.proposal)
			continue
		}
		if !bytes.HasPrefix(c.code[e.Offset:], c.mark) {
			t.Errorf("% x: refused at %#x, where there is % x", c.mark, e.Offset, c.code[e.Offset:min(e.Offset+4, len(c.code))])
		}
	}
}
