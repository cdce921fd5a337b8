package rewrite

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// script is a file of the WebAssembly core test suite, as wast2json writes it.
type script struct {
	Commands []command `json:"commands"`
}

type command struct {
	Type       string `json:"type"`
	Line       int    `json:"line"`
	Name       string `json:"name"`
	Filename   string `json:"filename"`
	As         string `json:"as"`
	ModuleType string `json:"module_type"`
	Action     action `json:"action"`
}

type action struct {
	Type   string  `json:"type"`
	Field  string  `json:"field"`
	Module string  `json:"module"`
	Args   []value `json:"args"`
}

type value struct {
	Type  string `json:"type"`
	Lane  string `json:"lane_type"`
	Value any    `json:"value"`
}

// bits are the value as the engine takes it.
func (v value) bits() []uint64 {
	if v.Type != "v128" {
		text, _ := v.Value.(string)
		return []uint64{number(text, v.Type)}
	}
	lanes, _ := v.Value.([]any)
	var out [2]uint64
	width := 128 / len(lanes)
	for i, l := range lanes {
		text, _ := l.(string)
		out[i*width/64] |= number(text, v.Lane) << (i * width % 64)
	}
	return out[:]
}

func number(text, typ string) uint64 {
	if text == "" || text == "null" {
		return 0
	}
	if strings.HasPrefix(text, "-") {
		n, _ := strconv.ParseInt(text, 10, 64)
		if strings.Contains(typ, "32") {
			return uint64(uint32(n))
		}
		return uint64(n)
	}
	n, _ := strconv.ParseUint(text, 10, 64)
	if typ == "externref" {
		n++ // the engine takes 0 for null
	}
	return n
}

// world runs one script's modules, as they are or rewritten.
type world struct {
	rt      wazero.Runtime
	rewrite bool
	named   map[string]api.Module
	last    api.Module
	loaded  []api.Module
	ticks   int
}

func newWorld(t *testing.T, spectest []byte, rewrite bool) *world {
	t.Helper()
	w := &world{rt: wazero.NewRuntime(t.Context()), rewrite: rewrite, named: map[string]api.Module{}}
	t.Cleanup(func() { _ = w.rt.Close(context.Background()) })
	_, err := w.rt.NewHostModuleBuilder(TickModule).NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module) {
		w.ticks++
		m.ExportedGlobal("cl:fuel").(api.MutableGlobal).Set(1000)
	}).Export(TickName).Instantiate(t.Context())
	if err == nil {
		_, err = w.rt.Instantiate(t.Context(), spectest)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// roomy lets everything of the suite through.
func roomy() Options {
	l := DefaultLimits()
	l.MemoryPages, l.TableEntries, l.Locals, l.Tables, l.Nesting, l.BranchTargets = 1<<16, math.MaxUint32, 1<<20, 1<<10, 1<<16, 1<<16
	return Options{Limits: l, StackBytes: 1 << 20}
}

func (w *world) load(code []byte, as string) (api.Module, error) {
	start := ""
	if w.rewrite {
		out, err := Module(code, roomy())
		if err != nil {
			return nil, err
		}
		code, start = out.Module, out.Start
	}
	m, err := w.rt.InstantiateWithConfig(context.Background(), code, wazero.NewModuleConfig().WithName(as))
	if err == nil && start != "" {
		if _, err = m.ExportedFunction(start).Call(context.Background()); err != nil {
			_ = m.Close(context.Background())
		}
	}
	if err == nil && w.rewrite {
		w.loaded = append(w.loaded, m)
	}
	return m, err
}

// refill does what a host does before each call from outside.
func (w *world) refill() {
	for _, m := range w.loaded {
		m.ExportedGlobal("cl:stack").(api.MutableGlobal).Set(1 << 20)
	}
}

func (w *world) act(a action) ([]uint64, []api.ValueType, error) {
	w.refill()
	m := w.last
	if a.Module != "" {
		m = w.named[a.Module]
	}
	if m == nil {
		return nil, nil, fmt.Errorf("no module")
	}
	if a.Type == "get" {
		g := m.ExportedGlobal(a.Field)
		return []uint64{g.Get()}, []api.ValueType{g.Type()}, nil
	}
	var args []uint64
	for _, v := range a.Args {
		args = append(args, v.bits()...)
	}
	fn := m.ExportedFunction(a.Field)
	results, err := fn.Call(context.Background(), args...)
	return results, fn.Definition().ResultTypes(), err
}

// TestTheCoreSuiteRunsTheSame runs the WebAssembly core test suite, versions 1 and 2, on plain and on
// rewritten modules, and compares every result and every trap. The suite comes with the engine.
func TestTheCoreSuiteRunsTheSame(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatalf("where is the engine's source? %v", err)
	}
	suite := filepath.Join(strings.TrimSpace(string(dir)), "internal", "integration_test", "spectest")
	spectest, err := os.ReadFile(filepath.Join(suite, "testdata", "spectest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	var compared, ticks int
	for _, version := range []string{"v1", "v2"} {
		files, err := filepath.Glob(filepath.Join(suite, version, "testdata", "*.json"))
		if err != nil || len(files) < 50 {
			t.Fatalf("%d scripts of %s, %v", len(files), version, err)
		}
		for _, file := range files {
			t.Run(version+"/"+strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
				c, k := runScript(t, file, spectest)
				compared, ticks = compared+c, ticks+k
			})
		}
	}
	t.Logf("%d results compared, %d ticks", compared, ticks)
	if compared < 30_000 || ticks < 1000 {
		t.Errorf("%d results compared and %d ticks: the suite did not run", compared, ticks)
	}
}

func runScript(t *testing.T, file string, spectest []byte) (compared, ticks int) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s script
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	plain, metered := newWorld(t, spectest, false), newWorld(t, spectest, true)
	for i := 0; i < len(s.Commands); i++ {
		c := s.Commands[i]
		var err1, err2 error
		var got1, got2 []uint64
		var types []api.ValueType
		switch c.Type {
		case "assert_return", "action", "assert_trap", "assert_exhaustion":
			got1, types, err1 = plain.act(c.Action)
			got2, _, err2 = metered.act(c.Action)
			compared++
		default:
			if c.Filename == "" || c.ModuleType == "text" {
				continue
			}
			code, err := os.ReadFile(filepath.Join(filepath.Dir(file), c.Filename))
			if err != nil {
				t.Fatal(err)
			}
			as := ""
			if c.Type == "module" && i+1 < len(s.Commands) && s.Commands[i+1].Type == "register" {
				i++
				as = s.Commands[i].As
			}
			var m1, m2 api.Module
			m1, err1 = plain.load(code, as)
			m2, err2 = metered.load(code, as)
			if c.Type == "module" {
				plain.last, metered.last = m1, m2
				if c.Name != "" {
					plain.named[c.Name], metered.named[c.Name] = m1, m2
				}
			}
			if err1 != nil && err2 != nil && c.Type != "module" {
				continue // the words differ: here they name the place
			}
		}
		if !sameError(c.Type, err1, err2) || err1 == nil && !sameValues(types, got1, got2) {
			t.Errorf("line %d, %s %s: plain %x %v, rewritten %x %v", c.Line, c.Type, c.Action.Field, got1, err1, got2, err2)
		}
	}
	return compared, metered.ticks
}

func sameError(typ string, a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	if typ == "assert_exhaustion" {
		return true // the guard stops it before the engine does
	}
	return firstLine(a) == firstLine(b)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// sameValues compares bits, but that a NaN is like any other of its type: which of its operands an
// instruction takes a NaN from is not defined.
func sameValues(types []api.ValueType, a, b []uint64) bool {
	if slices.Equal(a, b) || len(a) != len(b) {
		return len(a) == len(b)
	}
	if len(types) != len(a) { // vectors take two places each
		for i := range a {
			if a[i] != b[i] && !(nan32(a[i]) && nan32(b[i])) && !(nan64(a[i]) && nan64(b[i])) {
				return false
			}
		}
		return true
	}
	for i, typ := range types {
		same := a[i] == b[i] || typ == api.ValueTypeF32 && nan32(a[i]) && nan32(b[i]) ||
			typ == api.ValueTypeF64 && nan64(a[i]) && nan64(b[i]) || typ == typeFuncref && (a[i] == 0) == (b[i] == 0)
		if !same {
			return false
		}
	}
	return true
}

func nan64(v uint64) bool { return math.IsNaN(math.Float64frombits(v)) }

// nan32 says whether one of two floats is none.
func nan32(v uint64) bool {
	return math.IsNaN(float64(math.Float32frombits(uint32(v)))) || math.IsNaN(float64(math.Float32frombits(uint32(v>>32))))
}
