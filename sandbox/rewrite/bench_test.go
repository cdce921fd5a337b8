package rewrite

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// fib is fib(n) by two calls of itself: the worst case for what is added at a function's entry.
var fib = funcDef{typ: 1, code: []byte{
	opLocalGet, 0, opI32Const, 2, opI32LtS, opIf, typeI32, opLocalGet, 0, opElse,
	opLocalGet, 0, opI32Const, 1, opI32Sub, opCall, 0, opLocalGet, 0, opI32Const, 2, opI32Sub, opCall, 0, opI32Add, opEnd, opEnd,
}}

// BenchmarkMetering compares a tight loop and deep calls, plain and rewritten, with and without the
// stack's guard.
func BenchmarkMetering(b *testing.B) {
	code := export0(moduleDef{funcs: []funcDef{fib, down}}).bytes()
	for _, work := range []struct {
		name, fn string
		arg      uint64
	}{{"loop", "f1", 1_000_000}, {"fib", "f0", 25}} {
		for _, kind := range []string{"plain", "metered", "guarded"} {
			b.Run(work.name+"/"+kind, func(b *testing.B) {
				run(b, code, kind, work.fn, work.arg)
			})
		}
	}
}

func run(b *testing.B, code []byte, kind, fn string, arg uint64) {
	rt := wazero.NewRuntime(b.Context())
	defer rt.Close(context.Background())
	_, err := rt.NewHostModuleBuilder(TickModule).NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, m api.Module, _ []uint64) {
		m.ExportedGlobal("cl:fuel").(api.MutableGlobal).Set(100_000)
	}), nil, nil).Export(TickName).Instantiate(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if kind != "plain" {
		o := options()
		if kind == "metered" {
			o.StackBytes = 0
		}
		out, err := Module(code, o)
		if err != nil {
			b.Fatal(err)
		}
		code = out.Module
	}
	m, err := rt.Instantiate(b.Context(), code)
	if err != nil {
		b.Fatal(err)
	}
	f := m.ExportedFunction(fn)
	for b.Loop() {
		if _, err := f.Call(b.Context(), arg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkModule(b *testing.B) {
	d := moduleDef{}
	for range 10_000 {
		d.funcs = append(d.funcs, down)
	}
	code := d.bytes()
	b.SetBytes(int64(len(code)))
	for b.Loop() {
		if _, err := Module(code, options()); err != nil {
			b.Fatal(err)
		}
	}
}
