package rewrite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// generator writes valid modules whose functions all end. It decides by bytes, so that a fuzzer can
// steer it; when they are used up it takes the shortest way out.
type generator struct {
	choices []byte
	code    []byte
	self    int    // the function being written; it calls only later ones
	labels  []byte // of blocks around: the types they take, or none; the outermost first
	loops   int    // around
}

const (
	genFuncs  = 5 // f0 to f4, of the types below
	genDepth  = 5
	genRounds = 4 // of a loop
	noLabel   = 0 // a branch there would loop
)

// genTypes are types of moduleDef. The last functions are what the table holds.
var genTypes = [genFuncs]uint32{1, 0, 2, 1, 1}

// Locals of every function: an i32 (a parameter in some), then i64, f64, i32, and counters of loops.
const (
	localI32 = iota
	localI64
	localF64
	localSpare
	localLoop
)

func (g *generator) pick(n int) int {
	if len(g.choices) == 0 {
		return 0
	}
	c := int(g.choices[0])
	g.choices = g.choices[1:]
	return c % n
}

func (g *generator) emit(code ...byte) { g.code = append(g.code, code...) }

// constant favours the edges.
func (g *generator) constant() int64 {
	edges := []int64{0, 1, -1, 7, 1 << 31, -1 << 31, 65536, 65535, 1<<63 - 1, -1 << 63, 255, 4096}
	return edges[g.pick(len(edges))]
}

func (g *generator) oneOf(ops ...byte) { g.emit(ops[g.pick(len(ops))]) }

// integer leaves an i32.
func (g *generator) integer(depth int) {
	if depth == 0 {
		g.leafI32()
		return
	}
	d := depth - 1
	switch g.pick(14) {
	case 0:
		g.leafI32()
	case 1: // arithmetic, divisions that trap among it
		g.integer(d)
		g.integer(d)
		g.oneOf(0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f, 0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x48, 0x4b, 0x46)
	case 2:
		g.integer(d)
		g.oneOf(0x45, 0x67, 0x68, 0x69, 0xc0, 0xc1)
	case 3:
		g.long(d)
		g.emit(0xa7) // wrap
	case 4:
		g.float(d)
		g.float(d)
		g.oneOf(0x61, 0x63, 0x64)
	case 5: // load, out of bounds at times
		g.address(d)
		g.emit([][]byte{{0x28, 2}, {0x2d, 0}, {0x2f, 1}, {0x2c, 0}}[g.pick(4)]...)
		g.emit(byte(g.pick(4)))
	case 6:
		g.emit(opMemorySize, 0)
	case 7:
		g.integer(0)
		g.emit(opI32Const, 1, 0x71, opMemoryGrow, 0) // by 0 or 1
	case 8:
		g.call(d)
	case 9: // an if with a value
		g.integer(d)
		g.emit(opIf, typeI32)
		g.within(typeI32, func() { g.integer(d) })
		g.emit(opElse)
		g.within(typeI32, func() { g.integer(d) })
		g.emit(opEnd)
	case 10: // a block that may be left with a value
		g.emit(opBlock, typeI32)
		g.within(typeI32, func() {
			g.integer(d)
			g.integer(d)
			g.emit(opBrIf, 0)
		})
		g.emit(opEnd)
	case 11:
		g.integer(d)
		g.integer(d)
		g.integer(d)
		g.emit(opSelect)
	case 12:
		g.float(d)
		g.emit(opPrefixFC, 2) // saturating truncation
	case 13:
		g.integer(d)
		g.emit(opLocalTee, localSpare)
	}
}

func (g *generator) leafI32() {
	switch g.pick(3) {
	case 0:
		g.emit(opI32Const)
		g.code = appendS64(g.code, int64(int32(g.constant())))
	case 1:
		g.emit(opLocalGet, []byte{localI32, localSpare}[g.pick(2)])
	case 2:
		g.emit(opGlobalGet, 0)
	}
}

// address is mostly one in the first page.
func (g *generator) address(depth int) {
	g.integer(depth)
	if g.pick(4) > 0 {
		g.emit(opI32Const, 0xff, 0x07, 0x71)
	}
}

func (g *generator) call(depth int) {
	if g.self == 0 && g.pick(3) == 0 { // the table's functions, or a place without one
		g.integer(depth)
		g.integer(0)
		g.emit(opI32Const, 3, 0x71, opCallIndirect, 1, 0)
		return
	}
	g.integer(depth)
	for f := g.self + 1; f < genFuncs; f++ {
		if genTypes[f] == 1 {
			g.emit(opCall, byte(f))
			return
		}
	}
}

func (g *generator) long(depth int) {
	if depth == 0 {
		g.emit([][]byte{{opI64Const, 5}, {opLocalGet, localI64}, {opGlobalGet, 1}}[g.pick(3)]...)
		return
	}
	d := depth - 1
	switch g.pick(5) {
	case 0:
		g.emit(opI64Const)
		g.code = appendS64(g.code, g.constant())
	case 1:
		g.long(d)
		g.long(d)
		g.oneOf(0x7c, 0x7d, 0x7e, 0x7f, 0x80, 0x82, 0x83, 0x85, 0x86, 0x88, 0x89)
	case 2:
		g.integer(d)
		g.oneOf(0xac, 0xad)
	case 3:
		g.address(d)
		g.emit(0x29, 3, 0)
	case 4:
		g.long(d)
		g.emit(opLocalTee, localI64)
	}
}

func (g *generator) float(depth int) {
	if depth == 0 || g.pick(3) == 0 {
		g.emit(opLocalGet, localF64)
		return
	}
	d := depth - 1
	switch g.pick(3) {
	case 0:
		g.integer(d)
		g.oneOf(0xb7, 0xb8)
	case 1:
		g.float(d)
		g.float(d)
		g.oneOf(0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5)
	case 2:
		g.float(d)
		g.oneOf(0x99, 0x9a, 0x9b, 0x9f)
	}
}

// within writes the inside of a block.
func (g *generator) within(label byte, f func()) {
	g.labels = append(g.labels, label)
	f()
	g.labels = g.labels[:len(g.labels)-1]
}

// statements leave nothing on the stack.
func (g *generator) statements(depth int) {
	for range 1 + g.pick(3) {
		g.statement(depth)
	}
}

func (g *generator) statement(depth int) {
	if depth == 0 {
		g.integer(0)
		g.emit(opGlobalSet, 0)
		return
	}
	d := depth - 1
	switch g.pick(11) {
	case 0:
		g.integer(d)
		g.emit(opLocalSet, localI32)
	case 1:
		g.long(d)
		g.emit(opGlobalSet, 1)
	case 2:
		g.float(d)
		g.emit(opLocalSet, localF64)
	case 3:
		g.address(d)
		g.integer(d)
		g.emit([][]byte{{0x36, 2}, {0x3a, 0}, {0x3b, 1}}[g.pick(3)]...)
		g.emit(0)
	case 4:
		g.integer(d)
		g.emit(opIf, blockEmpty)
		g.within(blockEmpty, func() { g.statements(d) })
		if g.pick(2) == 1 {
			g.emit(opElse)
			g.within(blockEmpty, func() { g.statements(d) })
		}
		g.emit(opEnd)
	case 5:
		g.loop(d)
	case 6:
		g.branch(d)
	case 7:
		g.emit(opBlock, blockEmpty, opBlock, blockEmpty)
		g.integer(d)
		g.emit(opBrTable, 2, 0, 1, 0, opEnd)
		g.within(blockEmpty, func() { g.statements(d) })
		g.emit(opEnd)
	case 8:
		g.address(d)
		g.address(d)
		g.address(0)
		g.emit([][]byte{{opPrefixFC, fcMemoryFill, 0}, {opPrefixFC, fcMemoryCopy, 0, 0}}[g.pick(2)]...)
	case 9: // leave the function
		g.integer(d)
		g.emit(opIf, blockEmpty)
		g.within(blockEmpty, func() { g.results(d) })
		g.emit(opReturn, opEnd)
	case 10:
		g.integer(d)
		g.emit(opIf, blockEmpty, opUnreachable, opEnd)
	}
}

// loop runs a few rounds by a counter that nothing else writes to.
func (g *generator) loop(depth int) {
	counter := byte(localLoop + g.loops)
	g.loops++
	g.emit(opI32Const, byte(1+g.pick(genRounds)), opLocalSet, counter, opLoop, blockEmpty)
	g.within(noLabel, func() { g.statements(depth) })
	g.emit(opLocalGet, counter, opI32Const, 1, opI32Sub, opLocalTee, counter, opBrIf, 0, opEnd)
	g.loops--
}

// branch leaves a block around, or the function, on a condition.
func (g *generator) branch(depth int) {
	to := g.pick(len(g.labels))
	label := g.labels[len(g.labels)-1-to]
	switch {
	case to == len(g.labels)-1: // the function's own
		n := g.results(depth)
		g.integer(depth)
		g.emit(opBrIf, byte(to))
		for range n {
			g.emit(opDrop)
		}
	case label == blockEmpty:
		g.integer(depth)
		g.emit(opBrIf, byte(to))
	}
}

// results leaves what the function returns.
func (g *generator) results(depth int) int {
	n := []int{0, 1, 2}[genTypes[g.self]]
	for range n {
		g.integer(depth)
	}
	return n
}

// module is one with all functions, a memory of 1 to 3 pages, a table and two globals.
func (g *generator) module() []byte {
	d := moduleDef{
		memory:  []byte{1, 1, 1, 3},
		tables:  []byte{1, typeFuncref, 0, 4},
		globals: vec([]byte{typeI32, 1, opI32Const, 7, opEnd}, []byte{typeI64, 1, opI64Const, 9, opEnd}),
		elems:   []byte{1, 0, opI32Const, 0, opEnd, 3, 3, 4, 1}, // the third has another type, the fourth is none
		exports: []export{{"memory", kindMemory, 0}, {"a", kindGlobal, 0}, {"b", kindGlobal, 1}},
	}
	for f := range genFuncs {
		g.code, g.self, g.labels, g.loops = nil, f, []byte{noLabel}, 0
		g.statements(genDepth)
		g.results(genDepth)
		locals := []byte{5, 1, typeI32, 1, typeI64, 1, 0x7c, 1, typeI32, genDepth, typeI32}
		if genTypes[f] == 1 { // the first is its parameter
			locals = append([]byte{4}, locals[3:]...)
		}
		d.funcs = append(d.funcs, funcDef{typ: genTypes[f], locals: locals, code: append(g.code, opEnd)})
	}
	return export0(d).bytes()
}

// pair runs modules plain and rewritten.
type pair struct{ plain, rewritten wazero.Runtime }

func newPair(ctx context.Context) (p pair, err error) {
	p = pair{wazero.NewRuntime(ctx), wazero.NewRuntime(ctx)}
	_, err = p.rewritten.NewHostModuleBuilder(TickModule).NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module) {
		m.ExportedGlobal("cl:fuel").(api.MutableGlobal).Set(100)
	}).Export(TickName).Instantiate(ctx)
	return p, err
}

// check compares a module with what it becomes, with loops that are charged now and then, and at every turn.
func (p pair) check(t *testing.T, code []byte) (calls, traps int) {
	for _, laps := range []int64{lapCost, 1} {
		c, k := p.compare(t, code, laps)
		calls, traps = calls+c, traps+k
	}
	return calls, traps
}

// compare calls every function of both and compares all that can be seen.
func (p pair) compare(t *testing.T, code []byte, laps int64) (calls, traps int) {
	out, err := rewritten(code, options(), laps)
	if err != nil {
		t.Fatalf("a valid module is refused: %v", err)
	}
	anonymous := wazero.NewModuleConfig().WithName("")
	a, err := p.plain.InstantiateWithConfig(t.Context(), code, anonymous)
	if err != nil {
		t.Fatalf("the generator makes what is not valid: %v", err)
	}
	defer a.Close(t.Context())
	b, err := p.rewritten.InstantiateWithConfig(t.Context(), out.Module, anonymous)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(t.Context())
	for f, typ := range genTypes {
		var args []uint64
		if typ == 1 {
			args = []uint64{uint64(f)}
		}
		name := fmt.Sprintf("f%d", f)
		b.ExportedGlobal(out.Stack).(api.MutableGlobal).Set(1 << 20)
		got, err1 := a.ExportedFunction(name).Call(t.Context(), args...)
		same, err2 := b.ExportedFunction(name).Call(t.Context(), args...)
		calls++
		if err1 != nil {
			traps++
		}
		if !sameError("", err1, err2) || fmt.Sprint(got) != fmt.Sprint(same) {
			t.Fatalf("%s: plain %v %v, rewritten %v %v", name, got, err1, same, err2)
		}
		for _, global := range []string{"a", "b"} {
			if x, y := a.ExportedGlobal(global).Get(), b.ExportedGlobal(global).Get(); x != y {
				t.Fatalf("after %s global %s is %d plain and %d rewritten", name, global, x, y)
			}
		}
		x, _ := a.Memory().Read(0, a.Memory().Size())
		y, _ := b.Memory().Read(0, b.Memory().Size())
		if string(x) != string(y) {
			t.Fatalf("after %s the memories differ", name)
		}
	}
	return calls, traps
}

func TestGeneratedModulesRunTheSame(t *testing.T) {
	p, err := newPair(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.plain.Close(t.Context())
	defer p.rewritten.Close(t.Context())
	var calls, traps int
	for seed := range uint64(150) {
		choices := make([]byte, 2000)
		_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(choices)
		c, k := p.check(t, (&generator{choices: choices}).module())
		calls, traps = calls+c, traps+k
	}
	t.Logf("%d calls, %d traps", calls, traps)
	if traps == 0 || traps > calls*3/4 {
		t.Errorf("%d of %d calls trap: the modules are too tame or too wild to show anything", traps, calls)
	}
}

// FuzzGenerated is the same, steered by a fuzzer.
func FuzzGenerated(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{2, 5, 3, 3, 6, 0, 1, 7, 7, 8, 9, 10, 3, 1, 5, 2, 4, 9, 1, 1, 6, 2, 0, 8})
	p, err := newPair(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		p.check(t, (&generator{choices: choices[:min(len(choices), 4000)]}).module())
	})
}
