package rewrite

// Go's collector waits for a guest until its next tick, so that one instruction which moves many megabytes
// would stop everybody. memory.fill and memory.copy call functions that are added: these do a piece at a time,
// and charge each, which ticks. What lies outside of memory traps before anything is written, as it should: a
// range that does is left to the instruction itself.

// pieceBytes are moved between two looks at the fuel: some 50 µs of work.
const pieceBytes = 1 << 20

// The parameters of both functions, and a local: where to, the value or where from, how many bytes.
const (
	bulkTo = iota
	bulkFrom
	bulkCount
	bulkWide
)

// filling is the function that memory.fill becomes.
func (m *module) filling() []byte {
	one := []byte{opPrefixFC, fcMemoryFill, 0}
	b, t := m.beginBulk()
	b = m.leaveIfOutside(leaveIfFew(append(b, opBlock, blockEmpty)), bulkTo)
	b = t.forward(b, one, bulkTo)
	return append(t.rest(append(b, opEnd), one), opEnd)
}

// copying is the function that memory.copy becomes. Ranges that overlap are copied from the end that is not
// written to before it is read.
func (m *module) copying() []byte {
	one := []byte{opPrefixFC, fcMemoryCopy, 0, 0}
	b, t := m.beginBulk()
	b = m.leaveIfOutside(leaveIfFew(append(b, opBlock, blockEmpty)), bulkTo, bulkFrom)
	b = append(b, opLocalGet, bulkTo, opLocalGet, bulkFrom, opI32GtU, opIf, blockEmpty)
	b = append(t.backward(b, one), opElse)
	b = append(t.forward(b, one, bulkTo, bulkFrom), opEnd)
	return append(t.rest(append(b, opEnd), one), opEnd)
}

// beginBulk declares the local.
func (m *module) beginBulk() ([]byte, meter) {
	return []byte{1, 1, typeI64}, meter{m: m, wide: bulkWide, small: bulkCount}
}

func leaveIfFew(b []byte) []byte {
	return append(many(b), opI32Eqz, opBrIf, 0)
}

// many puts on the stack whether there is more than a piece.
func many(b []byte) []byte {
	b = append(b, opLocalGet, bulkCount)
	return append(appendS64(append(b, opI32Const), pieceBytes), opI32GtU)
}

// leaveIfOutside leaves the block if a range that begins at one of these is not all in memory.
func (m *module) leaveIfOutside(b []byte, starts ...byte) []byte {
	const bitsOfPage = 16
	for _, start := range starts {
		b = append(b, opLocalGet, start, opI64ExtendU, opLocalGet, bulkCount, opI64ExtendU, opI64Add)
		b = append(b, opMemorySize, 0, opI64ExtendU, opI64Const, bitsOfPage, opI64Shl)
		b = append(b, opI64GtU, opBrIf, 0)
	}
	return b
}

// forward does one piece after the other, while there is more than one, and moves these along.
func (t meter) forward(b, one []byte, along ...byte) []byte {
	b = t.charge(append(b, opLoop, blockEmpty), pieceBytes>>bytesShift)
	b = append(b, opLocalGet, bulkTo, opLocalGet, bulkFrom)
	b = append(appendS64(append(b, opI32Const), pieceBytes), one...)
	for _, local := range along {
		b = step(b, local, opI32Add)
	}
	return append(many(step(b, bulkCount, opI32Sub)), opBrIf, 0, opEnd)
}

// backward does the last piece first.
func (t meter) backward(b, one []byte) []byte {
	b = t.charge(append(b, opLoop, blockEmpty), pieceBytes>>bytesShift)
	b = step(b, bulkCount, opI32Sub)
	for _, start := range []byte{bulkTo, bulkFrom} {
		b = append(b, opLocalGet, start, opLocalGet, bulkCount, opI32Add)
	}
	b = append(appendS64(append(b, opI32Const), pieceBytes), one...)
	return append(many(b), opBrIf, 0, opEnd)
}

// step adds a piece to a local, or takes it off.
func step(b []byte, local, code byte) []byte {
	b = appendS64(append(b, opLocalGet, local, opI32Const), pieceBytes)
	return append(b, code, opLocalSet, local)
}

// rest does what is left, at most a piece, or all of what traps.
func (t meter) rest(b, one []byte) []byte {
	b = append(b, opLocalGet, bulkTo, opLocalGet, bulkFrom, opLocalGet, bulkCount)
	return append(t.chargeAmount(b, amountBytes), one...)
}
