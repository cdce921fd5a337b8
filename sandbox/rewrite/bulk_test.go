package rewrite

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
)

// TestMemoryIsMovedInPieces: what fills and copies of all sizes leave, ranges that overlap either way and ones
// that lie outside among them, is what the plain instructions leave; and none goes on for long without a tick.
func TestMemoryIsMovedInPieces(t *testing.T) {
	const memory = 80 * 64 << 10 // five pieces
	type move struct {
		fill           bool
		to, from, size int64
	}
	var moves []move
	for _, size := range []int64{0, 1, pieceBytes - 1, pieceBytes, pieceBytes + 1, 2*pieceBytes + 5, 3 * pieceBytes} {
		moves = append(moves, move{true, 3, 0xa5, size}, move{false, 3, 3 + pieceBytes, size}, move{false, 3 + pieceBytes, 3, size},
			move{false, 7, 9, size}, move{false, 9, 7, size}, move{false, memory - size, 0, size}, move{true, memory - size, 1, size},
			move{true, memory - size + 1, 1, size}, move{false, memory - size + 1, 0, size}, move{false, 0, memory - size + 1, size})
	}
	moves = append(moves, move{true, 0, 1, -1}, move{false, -1, 0, -1}, move{false, 0, -1, 2 * pieceBytes}, move{true, -1, 1, 2 * pieceBytes})
	d := moduleDef{memory: []byte{1, 0, memory >> 16}}
	for _, v := range moves {
		code := slices.Concat(appendS64([]byte{opI32Const}, v.to), appendS64([]byte{opI32Const}, v.from), appendS64([]byte{opI32Const}, v.size), []byte{opPrefixFC})
		if v.fill {
			code = append(code, fcMemoryFill, 0)
		} else {
			code = append(code, fcMemoryCopy, 0, 0)
		}
		d.funcs = append(d.funcs, fn(code...))
	}
	d = export0(d)
	d.exports = append(d.exports, export{"memory", kindMemory, 0})
	g := load(t, d, func(g *guest) { g.fuel().Set(100) })
	rt := wazero.NewRuntime(t.Context())
	defer rt.Close(t.Context())
	plain, err := rt.Instantiate(t.Context(), d.bytes())
	if err != nil {
		t.Fatal(err)
	}
	pattern := make([]byte, memory)
	for i := range pattern {
		pattern[i] = byte(i * i >> 7)
	}
	for i, v := range moves {
		plain.Memory().Write(0, pattern)
		g.Memory().Write(0, pattern)
		g.fuel().Set(100)
		g.ticks = 0
		name := fmt.Sprintf("f%d", i)
		_, want := plain.ExportedFunction(name).Call(t.Context())
		_, got := g.call(name)
		if !sameError("", want, got) {
			t.Errorf("%+v: plain %v, rewritten %v", v, want, got)
		}
		a, _ := plain.Memory().Read(0, memory)
		b, _ := g.Memory().Read(0, memory)
		if !bytes.Equal(a, b) {
			t.Errorf("%+v: the memories differ", v)
		}
		if want == nil && g.ticks < int(v.size/pieceBytes) {
			t.Errorf("%+v: %d ticks", v, g.ticks)
		}
	}
}
