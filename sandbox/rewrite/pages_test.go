package rewrite

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

const pageBytes = 64 << 10

// growing is a module with a memory of 1 to 5 pages: f0 grows it, f1 tells its size, f2 adds 1 to a
// byte and returns what it was.
func growing() moduleDef {
	return export0(moduleDef{memory: []byte{1, 1, 1, 5}, funcs: []funcDef{
		{typ: 1, code: []byte{opLocalGet, 0, opMemoryGrow, 0, opEnd}},
		{typ: 1, code: []byte{opMemorySize, 0, opEnd}},
		{typ: 1, locals: []byte{1, 1, typeI32}, code: []byte{
			opLocalGet, 0, opLocalGet, 0, opI32Load8, 0, 0, opLocalTee, 1, opI32Const, 1, opI32Add, opI32Store8, 0, 0, opLocalGet, 1, opEnd,
		}},
	}, exports: []export{{"memory", kindMemory, 0}}})
}

const (
	opI32Load8  = 0x2d
	opI32Store8 = 0x3a
)

func refill(g *guest) { g.fuel().Set(1 << 40) }

// image is what a host keeps of a guest.
type image struct {
	memory  []byte
	globals []uint64
}

func (g *guest) image() image {
	var im image
	all, _ := g.Memory().Read(0, g.Memory().Size())
	im.memory = slices.Clone(all)
	for _, name := range g.out.Globals {
		im.globals = append(im.globals, g.ExportedGlobal(name).Get())
	}
	return im
}

// restore is what a host does after a request. The engine's memory keeps its size.
func (g *guest) restore(im image) {
	all, _ := g.Memory().Read(0, g.Memory().Size())
	clear(all[copy(all, im.memory):])
	for i, name := range g.out.Globals {
		g.ExportedGlobal(name).(api.MutableGlobal).Set(im.globals[i])
	}
}

func (g *guest) must(t *testing.T, want int32, name string, arg int32) {
	t.Helper()
	got, err := g.call(name, api.EncodeI32(arg))
	if err != nil || api.DecodeI32(got[0]) != want {
		t.Fatalf("%s(%d) is %v, %v; want %d", name, arg, got, err, want)
	}
}

func TestARestoredGuestSeesTheSizeOfItsImage(t *testing.T) {
	g := load(t, growing(), refill)
	const grow, size, count = "f0", "f1", "f2"
	g.must(t, 1, grow, 1)
	im := g.image()
	g.must(t, 2, grow, 2)
	g.must(t, 4, size, 0)
	g.must(t, 0, count, 3*pageBytes)
	g.must(t, 1, count, 3*pageBytes)

	g.restore(im)
	g.must(t, 2, size, 0)
	g.must(t, 0, count, 3*pageBytes) // the one difference: a fresh instance would trap
	g.restore(im)
	g.must(t, 2, grow, 0)
	g.must(t, 2, grow, 1) // of the pages that are there
	g.must(t, 3, size, 0)
	g.must(t, 3, grow, 2) // of one that is there, and one more
	g.must(t, 5, size, 0)
	g.must(t, 0, count, 3*pageBytes)
	g.must(t, 0, count, 4*pageBytes)

	g.restore(im)
	g.must(t, -1, grow, 4) // one past the maximum, and nothing moves
	g.must(t, -1, grow, -1)
	g.must(t, 2, size, 0)
	g.must(t, 2, grow, 3) // all that is there
	g.must(t, -1, grow, 1)
	g.must(t, 5, size, 0)
	if pages := g.Memory().Size() / pageBytes; pages != 5 {
		t.Errorf("the engine's memory has %d pages", pages)
	}
}

// TestRequestsToARestoredGuestGoAsToAFreshOne compares random requests.
func TestRequestsToARestoredGuestGoAsToAFreshOne(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	used := load(t, growing(), refill)
	im := used.image()
	for request := range 200 {
		fresh := load(t, growing(), refill)
		for range random.IntN(8) {
			name, arg := "f0", uint64(random.IntN(4))
			if random.IntN(2) == 0 {
				size, err := used.call("f1", 0)
				if err != nil {
					t.Fatal(err)
				}
				name, arg = "f2", random.Uint64N(size[0]*pageBytes)
			}
			a, err1 := fresh.call(name, arg)
			b, err2 := used.call(name, arg)
			if err1 != nil || err2 != nil || !slices.Equal(a, b) {
				t.Fatalf("request %d, %s(%d): fresh %v %v, restored %v %v", request, name, arg, a, err1, b, err2)
			}
		}
		used.restore(im)
	}
}

func TestPagesAreCountedOnlyWhereTheyCanChange(t *testing.T) {
	size := funcDef{typ: 1, code: []byte{opMemorySize, 0, opEnd}}
	grow := funcDef{typ: 1, code: []byte{opLocalGet, 0, opMemoryGrow, 0, opEnd}}
	cases := map[string]struct {
		def  moduleDef
		want string
	}{
		"grows":           {moduleDef{memory: []byte{1, 0, 1}, funcs: []funcDef{grow, size}}, "cl:pages"},
		"never grows":     {moduleDef{memory: []byte{1, 0, 1}, funcs: []funcDef{size}}, ""},
		"grows another's": {moduleDef{imports: vec(imp("env", "m", kindMemory, 0, 1)), funcs: []funcDef{grow}}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out, err := Module(c.def.bytes(), options())
			if err != nil {
				t.Fatal(err)
			}
			if out.Pages != c.want {
				t.Errorf("pages are counted in %q, want %q", out.Pages, c.want)
			}
			if known := slices.Contains(out.Globals, "cl:pages") && slices.Contains(out.Hidden, "cl:pages"); known != (c.want != "") {
				t.Errorf("globals %v, hidden %v", out.Globals, out.Hidden)
			}
		})
	}
}

func TestVectorGlobalsAreToldOf(t *testing.T) {
	vector := append([]byte{typeV128, 1, opPrefixFD, fdConst}, append(make([]byte, 16), opEnd)...)
	g := load(t, moduleDef{globals: vec(vector, []byte{typeI32, 1, opI32Const, 7, opEnd})}, stop)
	if !g.out.VectorGlobals || !slices.Equal(g.out.Globals, []string{"cl:g1"}) {
		t.Errorf("vectors: %v, to restore: %v", g.out.VectorGlobals, g.out.Globals)
	}
	vector[1] = 0 // not mutable
	if out, err := Module(moduleDef{globals: vec(vector)}.bytes(), options()); err != nil || out.VectorGlobals {
		t.Error("a constant vector need not be restored", err)
	}
}
