package rewrite

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// fib is fib(n) by two calls of itself: the worst case for what is added at a function's entry.
var fib = funcDef{typ: 1, code: []byte{
	opLocalGet, 0, opI32Const, 2, opI32LtS, opIf, typeI32, opLocalGet, 0, opElse,
	opLocalGet, 0, opI32Const, 1, opI32Sub, opCall, 0, opLocalGet, 0, opI32Const, 2, opI32Sub, opCall, 0, opI32Add, opEnd, opEnd,
}}

// copies is how many there are of the tight loop. How fast one runs depends on how its few instructions lie
// in the processor's lines of 64 bytes, plain or metered, by half. Between the copies lies one filler more
// each, which compiles to 80 bytes, so that they lie in every way.
const copies = 8

var filler = funcDef{typ: 1, code: slices.Concat([]byte{opLocalGet, 0}, bytes.Repeat([]byte{opI32Const, 1, opI32Add}, 5), []byte{opEnd})}

// BenchmarkMetering compares a tight loop and deep calls, plain and rewritten, with and without the
// stack's guard.
func BenchmarkMetering(b *testing.B) {
	d := moduleDef{funcs: []funcDef{fib}}
	var loops []string
	for i := range copies {
		loops = append(loops, "f"+strconv.Itoa(len(d.funcs)))
		d.funcs = append(d.funcs, down)
		for range i {
			d.funcs = append(d.funcs, filler)
		}
	}
	code := export0(d).bytes()
	for _, work := range []struct {
		name string
		fns  []string
		arg  uint64
	}{{"loop", loops, 1_000_000 / copies}, {"fib", []string{"f0"}, 25}} {
		for _, kind := range []string{"plain", "metered", "guarded"} {
			b.Run(work.name+"/"+kind, func(b *testing.B) {
				run(b, code, kind, work.fns, work.arg)
			})
		}
	}
}

// BenchmarkGuests is the same for real guests: what compilers make of sorting, hashing and multiplying.
func BenchmarkGuests(b *testing.B) {
	dir := filepath.Join("..", "wasm", "testdata", "bench")
	built := filepath.Join(b.TempDir(), "work.wasm")
	build := exec.CommandContext(b.Context(), "go", "build", "-buildmode=c-shared", "-o", built, "./"+filepath.Join(dir, "work"))
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	for _, guest := range []struct{ name, path string }{
		{"C", filepath.Join(dir, "work-c.wasm")}, {"Rust", filepath.Join(dir, "work-rust.wasm")}, {"Go", built},
	} {
		code, err := os.ReadFile(guest.path)
		if err != nil {
			b.Fatal(err)
		}
		for _, kind := range []string{"plain", "guarded"} {
			b.Run(guest.name+"/"+kind, func(b *testing.B) { run(b, code, kind, []string{"work"}, 5) })
		}
	}
}

func run(b *testing.B, code []byte, kind string, fns []string, arg uint64) {
	rt := wazero.NewRuntime(b.Context())
	defer rt.Close(context.Background())
	wasi_snapshot_preview1.MustInstantiate(b.Context(), rt)
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
	m, err := rt.InstantiateWithConfig(b.Context(), code, wazero.NewModuleConfig().WithStartFunctions("_initialize"))
	if err != nil {
		b.Fatal(err)
	}
	before := usedCPU(b)
	for b.Loop() {
		for _, fn := range fns {
			if _, err := m.ExportedFunction(fn).Call(b.Context(), arg); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(usedCPU(b)-before)/float64(b.N), "cpu-ns/op")
}

func usedCPU(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
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
