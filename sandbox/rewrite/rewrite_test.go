package rewrite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// guest is a rewritten module that runs with a given tick.
type guest struct {
	api.Module
	out   *Output
	ticks int
}

func (g *guest) fuel() api.MutableGlobal { return g.ExportedGlobal(g.out.Fuel).(api.MutableGlobal) }

func (g *guest) call(name string, args ...uint64) ([]uint64, error) {
	return g.ExportedFunction(name).Call(context.Background(), args...)
}

func options() Options { return Options{Limits: DefaultLimits(), StackBytes: 1 << 20} }

// load rewrites and instantiates; tick is called with the guest's fuel.
func load(t *testing.T, d moduleDef, tick func(g *guest)) *guest {
	t.Helper()
	out, err := Module(d.bytes(), options())
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{out: out}
	rt := wazero.NewRuntime(t.Context())
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	_, err = rt.NewHostModuleBuilder(TickModule).NewFunctionBuilder().WithFunc(func(context.Context) { g.ticks++; tick(g) }).
		Export(TickName).Instantiate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if g.Module, err = rt.Instantiate(t.Context(), out.Module); err != nil {
		t.Fatal(err)
	}
	return g
}

var errStop = errors.New("stopped by tick")

func stop(*guest) { panic(errStop) }

func export0(d moduleDef) moduleDef {
	for i := range d.funcs {
		d.exports = append(d.exports, export{fmt.Sprintf("f%d", i), kindFunc, uint32(i)})
	}
	return d
}

func TestNothingRunsForLongWithoutATick(t *testing.T) {
	chain := moduleDef{} // each function calls the next twice: 2^30 calls, and no loop
	for i := range 30 {
		chain.funcs = append(chain.funcs, fn(opCall, byte(i+1), opCall, byte(i+1)))
	}
	chain.funcs = append(chain.funcs, fn())
	memory := []byte{1, 0, 16}
	// loops of one instruction that moves a mebibyte
	fill := moduleDef{memory: memory, funcs: []funcDef{fn(opLoop, blockEmpty, opI32Const, 0, opI32Const, 0, opI32Const, 0x80, 0x80, 0xc0, 0, opPrefixFC, fcMemoryFill, 0, opBr, 0, opEnd)}}
	for name, d := range map[string]moduleDef{"loop": {funcs: []funcDef{spin}}, "call chain": chain, "fill": fill} {
		t.Run(name, func(t *testing.T) {
			g := load(t, export0(d), stop)
			g.fuel().Set(1_000_000)
			if _, err := g.call("f0"); !errors.Is(err, errStop) {
				t.Errorf("it ended with %v", err)
			}
			if left := int64(g.fuel().Get()); left >= 0 || left < -100_000 {
				t.Errorf("%d fuel is left after the tick", left)
			}
		})
	}
}

func TestFuelIsTheSameEachTimeAndGrowsWithTheWork(t *testing.T) {
	g := load(t, export0(moduleDef{funcs: []funcDef{down}}), stop)
	used := func(n uint64) int64 {
		g.fuel().Set(1 << 40)
		if _, err := g.call("f0", n); err != nil {
			t.Fatal(err)
		}
		return 1<<40 - int64(g.fuel().Get())
	}
	if a, b := used(1000), used(1000); a != b {
		t.Errorf("%d and %d fuel for the same work", a, b)
	}
	if a, b := used(1000), used(2000); b-a != used(3000)-b || b <= a {
		t.Errorf("%d fuel for 1000 rounds and %d for 2000", a, b)
	}
}

// A call is paid for by the values that it passes: a chain of them would move as many at each step.
func TestCallsAreChargedForWhatTheyPass(t *testing.T) {
	const values, own = 400, 3 // own is the type () -> (so many i32)
	give := cat([]byte{0x60, 0}, vec(slices.Repeat([][]byte{{typeI32}}, values)...))
	for name, call := range map[string]func(f byte) []byte{
		"by name":    func(f byte) []byte { return []byte{opCall, f} },
		"indirectly": func(f byte) []byte { return []byte{opI32Const, f, opCallIndirect, own, 0} },
	} {
		used := func(steps byte) int64 {
			d := moduleDef{types: [][]byte{give}, tables: []byte{1, typeFuncref, 0, 100}}
			d.funcs = []funcDef{
				fn(cat([]byte{opBlock, blockEmpty}, call(steps), []byte{opBr, 0, opEnd})...),
				{typ: own, code: append(bytes.Repeat([]byte{opI32Const, 0}, values), opEnd)},
			}
			all := [][]byte{{0}, {1}}
			for f := byte(2); f <= steps; f++ {
				d.funcs = append(d.funcs, funcDef{typ: own, code: append(call(f-1), opEnd)})
				all = append(all, []byte{f})
			}
			d.elems = vec(cat([]byte{0, opI32Const, 0, opEnd}, vec(all...)))
			g := load(t, export0(d), stop)
			g.fuel().Set(1 << 40)
			if _, err := g.call("f0"); err != nil {
				t.Fatal(err)
			}
			return 1<<40 - int64(g.fuel().Get())
		}
		if got, least := used(21)-used(11), int64(10*values/valuesPerFuel); got < least {
			t.Errorf("%s: ten more calls that pass %d values cost %d, want %d at least", name, values, got, least)
		}
	}
}

func TestAmountsAreCharged(t *testing.T) {
	ops := map[string]struct {
		code []byte
		unit int64
	}{
		"memory.fill": {[]byte{opI32Const, 0, opI32Const, 0, opLocalGet, 0, opPrefixFC, fcMemoryFill, 0}, 16},
		"memory.copy": {[]byte{opI32Const, 0, opI32Const, 0, opLocalGet, 0, opPrefixFC, fcMemoryCopy, 0, 0}, 16},
		"table.fill":  {[]byte{opI32Const, 0, opRefNull, typeFuncref, opLocalGet, 0, opPrefixFC, fcTableFill, 0}, 1},
	}
	for name, o := range ops {
		t.Run(name, func(t *testing.T) {
			f := funcDef{typ: 1, code: append(slices.Clone(o.code), opLocalGet, 0, opEnd)}
			g := load(t, export0(moduleDef{memory: []byte{1, 0, 1}, tables: []byte{1, typeFuncref, 0, 0x80, 0x10}, funcs: []funcDef{f}}), stop)
			used := func(n uint64) int64 {
				g.fuel().Set(1 << 40)
				if _, err := g.call("f0", n); err != nil {
					t.Fatal(err)
				}
				return 1<<40 - int64(g.fuel().Get())
			}
			if got, want := used(1024)-used(0), 1024/o.unit; got != want {
				t.Errorf("%d fuel for 1024, want %d", got, want)
			}
		})
	}
}

// loops are functions (i32) -> (i32) whose loops leave and repeat each other in many ways. The second and the
// third take values from the stack, and leave some.
var loops = []funcDef{
	{typ: 1, locals: []byte{1, 2, typeI32}, code: []byte{ // sums by two nested loops, left by a table
		opBlock, blockEmpty, opLoop, blockEmpty,
		opLocalGet, 0, opLocalSet, 1,
		opBlock, blockEmpty, opLoop, blockEmpty,
		opLocalGet, 2, opLocalGet, 1, opI32Add, opLocalSet, 2,
		opLocalGet, 1, opI32Const, 1, opI32Sub, opLocalTee, 1,
		opBrTable, 2, 1, 0, 0, // 0: out of the inner loop, else again
		opEnd, opEnd,
		opLocalGet, 0, opI32Const, 1, opI32Sub, opLocalTee, 0,
		opI32Const, 2, opI32LtS, opBrIf, 1, // out of both
		opBr, 0, opEnd, opEnd, opLocalGet, 2, opEnd,
	}},
	{typ: 1, code: []byte{ // shifts left until it is large, and returns out of the loop
		opLocalGet, 0, opLoop, 1, opI32Const, 1, 0x74, opLocalTee, 0, opLocalGet, 0, opI32Const, 0x80, 0xc0, 0, opI32LtS, opBrIf, 0,
		opReturn, opEnd, opEnd,
	}},
	{typ: 1, code: []byte{ // counts down with a result, in a loop in a loop
		opLoop, typeI32, opLoop, typeI32,
		opLocalGet, 0, opI32Const, 3, opI32Sub, opLocalTee, 0, opI32Const, 50, opI32LtS, opIf, typeI32, opLocalGet, 0, opElse, opBr, 2, opEnd,
		opEnd, opEnd, opEnd,
	}},
}

// TestLoopsDoTheSame: whether they are charged at each turn or hardly ever.
func TestLoopsDoTheSame(t *testing.T) {
	code := export0(moduleDef{funcs: loops}).bytes()
	p, err := newPair(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.plain.Close(t.Context())
	defer p.rewritten.Close(t.Context())
	plain, err := p.plain.Instantiate(t.Context(), code)
	if err != nil {
		t.Fatal(err)
	}
	for _, laps := range []int64{0, 1, 7, 100, lapCost} {
		out, err := rewritten(code, options(), laps)
		if err != nil {
			t.Fatal(err)
		}
		metered, err := p.rewritten.InstantiateWithConfig(t.Context(), out.Module, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			t.Fatal(err)
		}
		for i := range loops {
			for _, arg := range []uint64{2, 3, 60, 500} {
				name := fmt.Sprintf("f%d", i)
				want, err := plain.ExportedFunction(name).Call(t.Context(), arg)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := metered.ExportedFunction(name).Call(t.Context(), arg); err != nil || !slices.Equal(got, want) {
					t.Errorf("%s(%d) is %d, with rounds of %d it is %d, %v", name, arg, want, laps, got, err)
				}
			}
		}
	}
}

func TestRecursionEndsAtTheStacksBudget(t *testing.T) {
	g := load(t, export0(moduleDef{funcs: []funcDef{recurse}}), func(g *guest) { g.fuel().Set(1 << 40) })
	_, err := g.call("f0")
	if err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("it ended with %v", err)
	}
	if left := int32(g.ExportedGlobal(g.out.Stack).Get()); left >= 0 {
		t.Errorf("%d bytes of stack are left", left)
	}
}

// TestOnlyFramesBelowCount: a function may call others any number of times, by name or through a table, however
// these end.
func TestOnlyFramesBelowCount(t *testing.T) {
	deep := fn(opBlock, blockEmpty, opCall, 1, opI32Const, 1, opBrIf, 1, opReturn, opEnd) // leaves by a branch
	each := func(call ...byte) funcDef {                                                  // calls 100,000 times: more frames than the stack has
		code := []byte{opI32Const, 0xa0, 0x8d, 0x06, opLocalSet, 0, opLoop, blockEmpty}
		code = append(code, call...)
		code = append(code, opLocalGet, 0, opI32Const, 1, opI32Sub, opLocalTee, 0, opBrIf, 0, opEnd, opEnd)
		return funcDef{locals: []byte{1, 1, typeI32}, code: code}
	}
	d := export0(moduleDef{funcs: []funcDef{deep, fn(opCall, 2), fn(), each(opCall, 0), each(opI32Const, 0, opCallIndirect, 0, 0)}})
	d.tables, d.elems = vec([]byte{typeFuncref, 0, 1}), vec([]byte{0, opI32Const, 0, opEnd, 1, 0})
	g := load(t, d, func(g *guest) { g.fuel().Set(1 << 40) })
	for _, name := range []string{"f3", "f4"} {
		if _, err := g.call(name); err != nil {
			t.Error(name, err)
		}
	}
}

func TestMutableGlobalsAreExportedUnderFreeNames(t *testing.T) {
	globals := vec([]byte{typeI32, 1, opI32Const, 7, opEnd}, []byte{typeI32, 0, opI32Const, 8, opEnd}, []byte{typeI32, 1, opI32Const, 9, opEnd})
	d := moduleDef{globals: globals, funcs: []funcDef{fn()}, exports: []export{{"cl:fuel", kindFunc, 0}, {"mine", kindGlobal, 2}}}
	g := load(t, d, stop)
	if want := []string{"cl_:g0", "mine"}; !slices.Equal(g.out.Globals, want) {
		t.Errorf("globals %v, want %v", g.out.Globals, want)
	}
	if want := []string{"cl_:fuel", "cl_:stack", "cl_:g0"}; !slices.Equal(g.out.Hidden, want) {
		t.Errorf("hidden %v, want %v", g.out.Hidden, want)
	}
	for i, want := range []uint64{7, 9} {
		if got := g.ExportedGlobal(g.out.Globals[i]).Get(); got != want {
			t.Errorf("global %d is %d", i, got)
		}
	}
}

func TestTablesCannotGrowPastTheLimit(t *testing.T) {
	grow := funcDef{typ: 1, code: []byte{opRefNull, typeFuncref, opLocalGet, 0, opPrefixFC, fcTableGrow, 0, opEnd}}
	g := load(t, export0(moduleDef{tables: []byte{1, typeFuncref, 0, 1}, funcs: []funcDef{grow}}), func(g *guest) { g.fuel().Set(1 << 40) })
	most := uint64(DefaultLimits().TableEntries)
	if got, err := g.call("f0", most); err != nil || int32(got[0]) != -1 {
		t.Errorf("one past the limit: %v, %v", got, err)
	}
	if got, err := g.call("f0", most-1); err != nil || got[0] != 1 {
		t.Errorf("up to the limit: %v, %v", got, err)
	}
	if !g.out.WritesTables {
		t.Error("it does not say that tables change")
	}
}

func TestTrapsCarryTheFunctionsNames(t *testing.T) {
	names := cat(appendName(nil, "name"), section(nil, namesFuncs, cat([]byte{1, 1}, appendName(nil, "culprit"))))
	d := moduleDef{imports: vec(imp("cl", "log", kindFunc, 0)), funcs: []funcDef{fn(opUnreachable)}, exports: []export{{"f", kindFunc, 1}}}
	d.trailing = cat(section(nil, secCustom, cat(appendName(nil, ".debug_info"), []byte("dwarf"))), section(nil, secCustom, names))
	out, err := Module(d.bytes(), options())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out.Module, []byte("dwarf")) {
		t.Error("debugging data is kept")
	}
	rt := wazero.NewRuntime(t.Context())
	defer rt.Close(t.Context())
	nop := func(context.Context) {}
	_, err = rt.NewHostModuleBuilder("cl").NewFunctionBuilder().WithFunc(nop).Export("log").NewFunctionBuilder().WithFunc(nop).Export(TickName).Instantiate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m, err := rt.Instantiate(t.Context(), out.Module)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.ExportedFunction("f").Call(t.Context()); err == nil || !strings.Contains(err.Error(), ".culprit()") {
		t.Errorf("the trap says %v", err)
	}
}

func TestRewritingIsDeterministic(t *testing.T) {
	names := cat(appendName(nil, "name"), section(nil, namesFuncs, cat([]byte{1, 1}, appendName(nil, "second"))))
	d := growing()
	d.trailing = section(nil, secCustom, names)
	a, err := Module(d.bytes(), options())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if b, err := Module(d.bytes(), options()); err != nil || !reflect.DeepEqual(a, b) {
			t.Fatal("two rewritings differ", err)
		}
	}
}

// TestARefusalSaysWhatAndWhere goes through what is not accepted.
func TestARefusalSaysWhatAndWhere(t *testing.T) {
	body := func(code ...byte) moduleDef { return moduleDef{funcs: []funcDef{fn(code...)}} }
	cases := map[string]struct {
		code []byte
		want string
	}{
		"empty":                {nil, "no WebAssembly"},
		"text":                 {[]byte("(module)"), "no WebAssembly"},
		"component":            {cat(magic, component), "component model"},
		"unknown version":      {cat(magic, []byte{2, 0, 0, 0}), "version 02 00 00 00 is unknown"},
		"truncated":            {body(opCall, 0).bytes()[:30], "not fit"},
		"section twice":        {cat(magic, version, []byte{secType, 1, 0, secType, 1, 0}), "out of order, or there twice"},
		"unknown section":      {cat(magic, version, []byte{99, 0}), "no section 99"},
		"section too long":     {cat(magic, version, []byte{secType, 2, 0, 0}), "longer than what it holds"},
		"tick":                 {moduleDef{imports: vec(imp("cl", "tick", kindFunc, 0))}.bytes(), "only the host may call"},
		"import not granted":   {moduleDef{imports: vec(imp("env", "system", kindFunc, 0))}.bytes(), "imports env.system, which nobody gives it here"},
		"import of a memory":   {moduleDef{imports: vec(imp("env", "memory", kindMemory, 0, 1))}.bytes(), "which is a memory"},
		"import of a table":    {moduleDef{imports: vec(imp("env", "t", kindTable, typeFuncref, 0, 1))}.bytes(), "which is a table"},
		"import of a global":   {moduleDef{imports: vec(imp("env", "g", kindGlobal, typeI32, 0))}.bytes(), "which is a global"},
		"no instruction":       {body(0xff).bytes(), "0xff is no instruction"},
		"else without if":      {body(opElse).bytes(), "else is not inside an if"},
		"open block":           {body(opBlock, blockEmpty).bytes(), "ends inside a block"},
		"branch out of all":    {body(opLoop, blockEmpty, opBr, 2, opEnd).bytes(), "a branch out of 3 blocks is in 2 only"},
		"one of a table":       {body(opI32Const, 0, opBrTable, 1, 0, 1).bytes(), "a branch out of 2 blocks is in 1 only"},
		"one if":               {body(opI32Const, 0, opBrIf, 1).bytes(), "a branch out of 2 blocks is in 1 only"},
		"code after the end":   {body(opEnd).bytes(), "code after the function's end"},
		"the fuel global":      {body(opGlobalGet, 0, opDrop).bytes(), "global 0 of 0"},
		"a scratch local":      {body(opLocalGet, 0, opDrop).bytes(), "local 0 of 0"},
		"the added function":   {body(opCall, 1).bytes(), "function 1 of 1"},
		"an added type":        {body(opBlock, 3, opEnd).bytes(), "no type of a block"},
		"number too long":      {body(opI32Const, 0x80, 0x80, 0x80, 0x80, 0x70, opDrop).bytes(), "more than 32 bits"},
		"function not coded":   {cat(magic, version, []byte{secType, 4, 1, 0x60, 0, 0, secFunction, 2, 1, 0}), "1 functions are declared and 0 have code"},
		"count above an int32": {cat(magic, version, []byte{secType, 4, 1, 0x60, 0, 0, secFunction, 5, 0xff, 0xff, 0xff, 0xff, 0x0f}), "4294967295 functions"},
		"name is not UTF-8":    {moduleDef{funcs: []funcDef{fn()}, exports: []export{{"\xff", kindFunc, 0}}}.bytes(), "not UTF-8"},
		"out of the functions": {moduleDef{funcs: []funcDef{fn()}, exports: []export{{"f", kindFunc, 1}}}.bytes(), "function 1 of 1"},
	}
	o := options()
	o.Granted = func(module, name string) bool { return module == "cl" }
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Module(c.code, o)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(e.Reason, c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if e.Offset < 0 || e.Offset > len(c.code) {
				t.Errorf("offset %d of %d", e.Offset, len(c.code))
			}
		})
	}
}

// TestLimitsHoldAtThemAndAbove has each limit met, and passed by one.
func TestLimitsHoldAtThemAndAbove(t *testing.T) {
	funcs := func(n int) []byte { return moduleDef{funcs: slices.Repeat([]funcDef{fn()}, n)}.bytes() }
	cases := map[string]struct {
		set  func(*Limits, int)
		make func(n int) []byte
		at   int
	}{
		"functions": {func(l *Limits, n int) { l.Functions = n }, funcs, 5},
		"body":      {func(l *Limits, n int) { l.BodyBytes = n }, func(n int) []byte { return moduleDef{funcs: []funcDef{fn(bytes.Repeat([]byte{1}, n-2)...)}}.bytes() }, 40},
		"locals": {func(l *Limits, n int) { l.Locals = n }, func(n int) []byte {
			return moduleDef{funcs: []funcDef{{locals: []byte{1, byte(n), typeI32}, code: []byte{opEnd}}}}.bytes()
		}, 9},
		"locals of all": {func(l *Limits, n int) { l.AllLocals = n }, func(n int) []byte {
			with := func(n byte) funcDef { return funcDef{locals: []byte{1, n, typeI32}, code: []byte{opEnd}} }
			return moduleDef{funcs: []funcDef{with(3), with(byte(n - 3))}}.bytes()
		}, 9},
		"values passed": {func(l *Limits, n int) { l.Passed = n }, func(n int) []byte {
			values := func(n int) []byte { return vec(slices.Repeat([][]byte{{typeI32}}, n)...) }
			return cat(magic, version, section(nil, secType, vec(cat([]byte{0x60}, values(1), values(n)))))
		}, 9},
		"values of types": {func(l *Limits, n int) { l.TypeValues = n }, func(n int) []byte {
			values := func(n int) []byte { return vec(slices.Repeat([][]byte{{typeI32}}, n)...) }
			return cat(magic, version, section(nil, secType, vec(cat([]byte{0x60}, values(1), values(2)), cat([]byte{0x60}, values(n-3), values(0)))))
		}, 9},
		"entries of segments": {func(l *Limits, n int) { l.Elements = n }, func(n int) []byte {
			passive := func(n int) []byte { return cat([]byte{1, 0, byte(n)}, make([]byte, n)) }
			return moduleDef{funcs: []funcDef{fn()}, elems: vec(passive(2), passive(n-2))}.bytes()
		}, 9},
		"nesting": {func(l *Limits, n int) { l.Nesting = n }, func(n int) []byte {
			return moduleDef{funcs: []funcDef{fn(cat(bytes.Repeat([]byte{opBlock, blockEmpty}, n-1), bytes.Repeat([]byte{opEnd}, n-1))...)}}.bytes()
		}, 7},
		"branches": {func(l *Limits, n int) { l.BranchTargets = n }, func(n int) []byte {
			return moduleDef{funcs: []funcDef{fn(cat([]byte{opI32Const, 0, opBrTable, byte(n)}, make([]byte, n+1))...)}}.bytes()
		}, 6},
		"complexity": {func(l *Limits, n int) { l.Complexity = n }, func(n int) []byte {
			return moduleDef{funcs: []funcDef{{locals: []byte{1, byte(n), typeI32}, code: []byte{opBlock, blockEmpty, opEnd, opEnd}}}}.bytes()
		}, 8},
		"types": {func(l *Limits, n int) { l.Types = n }, func(n int) []byte {
			return cat(magic, version, section(nil, secType, append([]byte{byte(n)}, bytes.Repeat([]byte{0x60, 0, 0}, n)...)))
		}, 4},
		"memory": {func(l *Limits, n int) { l.MemoryPages = uint32(n) }, func(n int) []byte { return moduleDef{memory: []byte{1, 0, byte(n)}}.bytes() }, 3},
		"table":  {func(l *Limits, n int) { l.TableEntries = uint32(n) }, func(n int) []byte { return moduleDef{tables: []byte{1, typeFuncref, 0, byte(n)}}.bytes() }, 12},
		"tables": {func(l *Limits, n int) { l.Tables = n }, func(n int) []byte {
			return moduleDef{tables: append([]byte{byte(n)}, bytes.Repeat([]byte{typeFuncref, 0, 0}, n)...)}.bytes()
		}, 2},
		"data": {func(l *Limits, n int) { l.DataBytes = n }, func(n int) []byte {
			return moduleDef{memory: []byte{1, 0, 1}, data: cat([]byte{1, 1, byte(n)}, make([]byte, n)), count: []byte{1}}.bytes()
		}, 11},
		"custom": {func(l *Limits, n int) { l.CustomBytes = n }, func(n int) []byte {
			return cat(magic, version, section(nil, secCustom, appendName(nil, strings.Repeat("x", n-1))))
		}, 13},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := options()
			c.set(&o.Limits, c.at)
			for n := c.at - 1; n <= c.at; n++ {
				if _, err := Module(c.make(n), o); err != nil {
					t.Errorf("%d with a limit of %d: %v", n, c.at, err)
				}
			}
			if _, err := Module(c.make(c.at+1), o); err == nil {
				t.Errorf("%d with a limit of %d is accepted", c.at+1, c.at)
			}
		})
	}
}

// FuzzModule holds that nothing panics, that what comes out is the same each time, and that what the
// engine accepts before it accepts after, with the same functions exported.
func FuzzModule(f *testing.F) {
	f.Add(export0(moduleDef{funcs: []funcDef{spin, down, recurse}, memory: []byte{1, 0, 1}, tables: []byte{1, typeFuncref, 0, 1}}).bytes())
	f.Add(moduleDef{globals: vec([]byte{typeI32, 1, opI32Const, 7, opEnd}), funcs: []funcDef{fn()}, elems: []byte{1, 1, 0, 1, 0}}.bytes())
	f.Add(cat(magic, component))
	f.Add(growing().bytes())
	f.Add((&generator{choices: []byte("any choices will do to make a module of some length")}).module())
	rt := wazero.NewRuntime(context.Background())
	f.Fuzz(func(t *testing.T, code []byte) {
		o := options()
		out, err := Module(code, o)
		if err != nil {
			return
		}
		if again, err := Module(code, o); err != nil || !reflect.DeepEqual(out, again) {
			t.Fatal("two rewritings differ", err)
		}
		before, err := rt.CompileModule(t.Context(), code)
		if err != nil {
			return
		}
		defer before.Close(t.Context())
		after, err := rt.CompileModule(t.Context(), out.Module)
		if err != nil {
			t.Fatalf("the engine accepts the module and refuses what it became: %v", err)
		}
		defer after.Close(t.Context())
		exported := after.ExportedFunctions()
		delete(exported, out.Start)
		if a, b := len(before.ExportedFunctions()), len(exported); a != b {
			t.Errorf("%d functions were exported and %d are", a, b)
		}
	})
}
