package rewrite

// The engine's memories only grow. An instance that is used for many requests would tell each of them
// how far earlier ones had grown it. So a module that grows its memory counts its pages in a global of
// its own, which the host restores as it does the others: memory.size reads that, and memory.grow calls
// a function that first takes the pages which the engine's memory has more than the guest knows of. The
// host has cleared them.
//
// One thing is not as in a fresh instance: an access to those pages, which should trap, reads zeros.

// virtual says whether the module's pages are counted.
func (m *module) virtual() bool { return m.grows && m.memories > 0 }

// growth is the function that memory.grow becomes, (pages) -> old size or -1.
func (m *module) growth() []byte {
	const wanted = 0
	b := []byte{0} // no locals
	b = op(b, opLocalGet, wanted)
	b = m.unknownPages(b)
	b = append(b, opI32GtU, opIf, blockEmpty)
	b = op(b, opLocalGet, wanted)
	b = m.unknownPages(b)
	b = append(b, opI32Sub, opMemoryGrow, 0)
	b = append(b, opI32Const, 0, opI32LtS, opIf, blockEmpty) // no size is below 0
	b = append(appendS64(append(b, opI32Const), -1), opReturn, opEnd, opEnd)
	b = op(b, opGlobalGet, m.pages)
	b = op(b, opGlobalGet, m.pages)
	b = append(op(b, opLocalGet, wanted), opI32Add)
	return append(op(b, opGlobalSet, m.pages), opEnd)
}

// unknownPages are those that the memory has and the guest does not see.
func (m *module) unknownPages(b []byte) []byte {
	return append(op(append(b, opMemorySize, 0), opGlobalGet, m.pages), opI32Sub)
}

// sizing writes what stands instead of memory.size or memory.grow.
func (m *module) sizing(b []byte, e edit) []byte {
	switch {
	case !m.virtual():
		return append(b, m.code[e.from:e.to]...)
	case e.kind == editSize:
		return op(b, opGlobalGet, m.pages)
	}
	return op(b, opCall, m.grow)
}
