package wasi

import (
	"io"
	"runtime"
)

func argsGet(w *World, m memory, a args) error         { return m.putStrings(a.u32(0), a.u32(1), w.args) }
func argsSizesGet(w *World, m memory, a args) error    { return m.putSizes(a.u32(0), a.u32(1), w.args) }
func environGet(w *World, m memory, a args) error      { return m.putStrings(a.u32(0), a.u32(1), w.env) }
func environSizesGet(w *World, m memory, a args) error { return m.putSizes(a.u32(0), a.u32(1), w.env) }

// stringBytes is how much room all take, each with a NUL. It is no more than maxStringBytes.
func stringBytes(all []string) uint32 {
	n := 0
	for _, s := range all {
		n += len(s) + 1
	}
	return uint32(n)
}

func (m memory) putSizes(count, bytes uint32, all []string) error {
	if err := m.putU32(count, uint32(len(all))); err != nil {
		return err
	}
	return m.putU32(bytes, stringBytes(all))
}

// putStrings puts the strings one behind the other to buf, and the address of each to list.
func (m memory) putStrings(list, buf uint32, all []string) error {
	p, err := m.view(buf, stringBytes(all))
	if err != nil {
		return err
	}
	if _, err := m.view(list, 4*uint32(len(all))); err != nil {
		return err
	}
	for i, s := range all {
		if err := m.putU32(list+4*uint32(i), buf); err != nil {
			return err
		}
		p[copy(p, s)] = 0
		p, buf = p[len(s)+1:], buf+uint32(len(s))+1
	}
	return nil
}

func randomGet(w *World, m memory, a args) error {
	p, err := m.view(a.u32(0), a.u32(1))
	for err == nil && len(p) > 0 {
		w.ended()
		piece := p[:min(len(p), chunkBytes)]
		w.config.Charge(len(piece))
		_, err = io.ReadFull(w.config.Random, piece)
		p = p[len(piece):]
	}
	return err
}

func schedYield(*World, memory, args) error {
	runtime.Gosched()
	return nil
}

func procExit(_ *World, _ Memory, stack []uint64) { panic(&Exit{Code: uint32(stack[0])}) }

// signalDefaults is what each signal does to a process that handles none, which is all that a guest
// can be: d it ends, i nothing happens, s it would stop, from NONE on in preview 1's order.
const signalDefaults = "iddddddddddddddd" + "iissss" + "idddd" + "iddd"

// exitOfSignal is what a shell adds to a signal's number for the code of what it has ended.
const exitOfSignal = 128

func procRaise(_ *World, _ memory, a args) error {
	n := a.u32(0)
	if n >= uint32(len(signalDefaults)) {
		return eInval
	}
	switch signalDefaults[n] {
	case 'd':
		panic(&Exit{Code: exitOfSignal + n})
	case 's':
		return eNotsup // nobody could wake it up
	}
	return nil
}
