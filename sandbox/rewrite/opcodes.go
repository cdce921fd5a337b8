package rewrite

// Instructions that this package looks at, by their first byte
// (https://www.w3.org/TR/wasm-core-2/#a7-index-of-instructions).
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opDrop         = 0x1a
	opSelect       = 0x1b
	opSelectTyped  = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableGet     = 0x25
	opTableSet     = 0x26
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32Eqz       = 0x45
	opI32LtS       = 0x48
	opI32GtU       = 0x4b
	opI64LtS       = 0x53
	opI64GtU       = 0x56
	opI32Add       = 0x6a
	opI32Sub       = 0x6b
	opI64Add       = 0x7c
	opI64Sub       = 0x7d
	opI64Or        = 0x84
	opI64Shl       = 0x86
	opI64ShrU      = 0x88
	opI64ExtendS   = 0xac
	opI64ExtendU   = 0xad
	opLastNumeric  = 0xc4
	opRefNull      = 0xd0
	opRefIsNull    = 0xd1
	opRefFunc      = 0xd2
	opPrefixFC     = 0xfc
	opPrefixFD     = 0xfd
)

// Instructions behind the prefix FC.
const (
	fcLastTrunc  = 7
	fcMemoryInit = 8
	fcDataDrop   = 9
	fcMemoryCopy = 10
	fcMemoryFill = 11
	fcTableInit  = 12
	fcElemDrop   = 13
	fcTableCopy  = 14
	fcTableGrow  = 15
	fcTableSize  = 16
	fcTableFill  = 17
	fcFirstWide  = 19 // to 22, of a proposal
	fcLastWide   = 22
)

// Instructions behind the prefix FD, which are vectors'.
const (
	fdLastLoad  = 11 // 0 to 11 have a memory argument
	fdConst     = 12
	fdShuffle   = 13
	fdFirstLane = 21
	fdLastLane  = 34
	fdLoadLane  = 84 // to 91: a memory argument and a lane
	fdStoreLane = 91
	fdLoadZero  = 93 // 92 and 93 have a memory argument
	fdEnd       = 256
)

const blockEmpty = 0x40

// Value types.
const (
	typeI32       = 0x7f
	typeI64       = 0x7e
	typeV128      = 0x7b
	typeFuncref   = 0x70
	typeExternref = 0x6f
)

func isRefType(t byte) bool { return t == typeFuncref || t == typeExternref }
func isValType(t byte) bool { return t >= typeV128 && t <= typeI32 || isRefType(t) }

// weight is what an instruction costs, in fuel: about so many simple machine instructions. What only
// marks places costs nothing; what moves amounts is charged by them besides.
func weight(op byte) int64 {
	switch op {
	case opBlock, opElse, opEnd, 0x01: // nop
		return 0
	case opCall:
		return 4
	case opCallIndirect:
		return 8
	case opMemoryGrow:
		return 1000
	case 0x6d, 0x6e, 0x6f, 0x70, 0x7f, 0x80, 0x81, 0x82, 0x95, 0xa3: // divisions
		return 4
	case 0x91, 0x9f: // square roots
		return 4
	case opBrTable, opTableGet, opTableSet:
		return 2
	}
	return 1
}
