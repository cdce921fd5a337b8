package wasm

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	wapi "github.com/tetratelabs/wazero/api"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox/fake"
	"github.com/cloudless/cloudless/sandbox/rewrite"
)

// hostCall is a function that guests may import.
type hostCall struct {
	module, name    string
	params, results []wapi.ValueType
}

// everyHostCall are all that there are, in order.
func everyHostCall(d *Driver) (all []hostCall) {
	for _, module := range hostModules {
		defs := d.engine.runtime.Module(module).ExportedFunctionDefinitions()
		for _, name := range slices.Sorted(maps.Keys(defs)) {
			if name != rewrite.TickName {
				all = append(all, hostCall{module, name, defs[name].ParamTypes(), defs[name].ResultTypes()})
			}
		}
	}
	return all
}

func text(s string) []byte { return append(leb(len(s)), s...) }

// The instructions of a caller beyond those of bombs.
const (
	opCallFunc  = 0x10
	opI32Load   = 0x28
	opI64Load   = 0x29
	opI32Eq     = 0x46
	opI32Wrap64 = 0xa7
)

// callerOf is a module with a page of memory that calls the function whose number is the request's first
// eight bytes, with the arguments that follow, eight bytes each, of which those of 32 bits have something
// in the upper halves of where they are computed.
func callerOf(all []hostCall) []byte {
	types, imports := leb(len(all)+1), leb(len(all))
	code := []byte{0} // no locals
	read := slices.IndexFunc(all, func(c hostCall) bool { return c.name == "body_read" })
	code = append(append(append(code, opI32Const, 0, opI32Const, 0xc0, 0, opCallFunc), leb(read)...), opDrop)
	for n, c := range all {
		types = append(append(append(append(append(types, 0x60), leb(len(c.params))...), c.params...), leb(len(c.results))...), c.results...)
		imports = append(append(append(append(imports, text(c.module)...), text(c.name)...), 0), leb(n)...)
		code = append(code, opI32Const, 0, opI32Load, 2, 0)
		code = append(append(append(code, opI32Const), sleb(n)...), opI32Eq, opIf, blockVoid)
		for i, typ := range c.params {
			code = append(append(code, opI32Const, 0, opI64Load, 3), leb(8*(i+1))...)
			if typ == wapi.ValueTypeI32 {
				code = append(code, opI32Wrap64)
			}
		}
		code = append(append(code, opCallFunc), leb(n)...)
		code = append(append(code, bytes.Repeat([]byte{opDrop}, len(c.results))...), opEnd)
	}
	code = append(code, opEnd)
	exports := append(append(append(leb(2), text("memory")...), 2, 0), text(exportHandle)...)
	exports = append(append(exports, 0), leb(len(all))...)
	return bytes.Join([][]byte{
		magic, versionModule,
		section(1, append(types, 0x60, 0, 0)),
		section(2, imports),
		section(3, append(leb(1), leb(len(all))...)),
		section(5, []byte{1, 0, 1}),
		section(7, exports),
		section(10, leb(1), leb(len(code)), code),
	}, nil)
}

// sleb is a small number in the binary format's signed encoding.
func sleb(n int) []byte {
	if n < 64 {
		return []byte{byte(n)}
	}
	return []byte{byte(n&0x7f) | 0x80, byte(n >> 7)}
}

// edges are arguments at the ends of what they may be, as pointers, lengths, numbers, and descriptors.
var edges = []uint64{
	0, 1, 3, 4, 64, pageBytes - 1, pageBytes, pageBytes + 1,
	math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32 - 7, math.MaxUint32, math.MaxUint32 + 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64,
}

// argumentsOf are each edge for a function of one parameter, and many combinations for one of more.
func argumentsOf(c hostCall, random *rand.Rand) (all [][]uint64) {
	const most = 80
	combinations := int(math.Pow(float64(len(edges)), float64(len(c.params))))
	for n := range min(combinations, most) {
		if combinations > most {
			n = random.IntN(combinations)
		}
		args := make([]uint64, len(c.params))
		for i := range args {
			args[i], n = edges[n%len(edges)], n/len(edges)
		}
		all = append(all, args)
	}
	return all
}

// TestNoCallOfTheHostPanics: whatever a guest gives to any function, with dirt above the 32 bits that count,
// it gets a result, or its request ends in a trap that is its own.
func TestNoCallOfTheHostPanics(t *testing.T) {
	d := newDriver(t)
	all := everyHostCall(d)
	spec := rubbish(t, callerOf(all))
	spec.Storage, spec.Buckets = fake.NewStorage("sessions"), []api.BucketGrant{{Bucket: "sessions", Access: api.AccessReadWrite}}
	spec.Egress = []string{"example.com:443"}
	h, _ := start(t, d, spec)
	random := rand.New(rand.NewPCG(1, 2))
	returned, trapped := 0, 0
	for n, c := range all {
		for _, args := range argumentsOf(c, random) {
			body := binary.LittleEndian.AppendUint64(nil, uint64(n))
			for i, a := range args {
				if c.params[i] == wapi.ValueTypeI32 {
					a = a&math.MaxUint32 | random.Uint64()<<32
				}
				body = binary.LittleEndian.AppendUint64(body, a)
			}
			switch err := callOnce(t, h.(*server), body); {
			case err == nil:
				returned++
			case strings.Contains(err.Error(), "runtime error"):
				t.Errorf("%s.%s(%#x): %v", c.module, c.name, args, err)
			default:
				trapped++
			}
		}
	}
	t.Logf("%d functions, %d calls returned, %d trapped", len(all), returned, trapped)
	if returned == 0 || trapped == 0 {
		t.Error("the calls are too tame, or too wild, to show anything")
	}
}

// callOnce has an instance handle a request, and tells how that ended.
func callOnce(t *testing.T, s *server, body []byte) error {
	t.Helper()
	i, err := s.pool.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x := newExchange(s.ctx, httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body)), s.timeout)
	defer x.close()
	return s.serve(i, x)
}
