package wasm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

func TestHostileShape(t *testing.T) {
	newYard(t).run(t, []attack{
		{name: "import-memory", end: refused("env")},
		{name: "import-table", end: refused("import")},
		{name: "import-global", end: refused("import")},
		{name: "import-tick", end: refused("cl.tick")},
		{name: "import-unstable", end: refused("wasi_unstable.fd_write")},
		{name: "import-many", end: answers(http.StatusOK, "")},
		{name: "handle-import", end: answers(http.StatusOK, "")},
		{name: "initialize-import", end: refused("outside of a request")},
		{name: "initialize-request", end: refused("outside of a request")},
		{name: "start-import", end: refused("outside of a request")},
		{name: "handle-type", end: refused("must be () -> ()")},
		{name: "handle-global", end: refused("neither cl_handle")},
		{name: "memory-hidden", end: refused("does not export its memory")},
		{name: "memory-none", end: refused("does not export its memory")},
		{name: "trap-divide", end: trapped("integer divide by zero")},
		{name: "trap-convert", end: trapped("invalid conversion to integer")},
		{name: "trap-load", end: trapped("out of bounds memory access")},
		{name: "trap-store", end: trapped("out of bounds memory access")},
		{name: "trap-null", end: trapped("invalid table access")},
		{name: "trap-table", end: trapped("invalid table access")},
		{name: "trap-type", end: trapped("indirect call type mismatch")},
		{name: "trap-start", end: refused("unreachable")},
		{name: "exit-start", end: refused("exited with code 0")},
		{name: "exit-initialize", end: refused("ended itself in _initialize")},
		{name: "exit-code", end: answers(http.StatusBadGateway, "exited with code 4294967295")},
		{name: "raise", end: answers(http.StatusBadGateway, "exited with code")},
		{name: "job-trap", end: exits(codeTrap, "trap: unreachable")},
		{name: "descriptors", end: tells(0)},
	})
}

// TestHostileBinaries: what is cut anywhere, has one bit changed, or was made for other engines is
// refused, or runs as any module does. Whole children compile a part of them; the parts of this process
// that read modules see all.
func TestHostileBinaries(t *testing.T) {
	echo, err := os.ReadFile("testdata/echo.wasm")
	if err != nil {
		t.Fatal(err)
	}
	attacks := []attack{
		{name: "nothing", code: []byte{}, end: refused("not a wasm module")},
		{name: "a component", code: append(append(bytes.Clone(magic), versionComponent...), 1, 2, 3), end: refused("component")},
	}
	const samples = 12
	random := rand.New(rand.NewPCG(1, 2))
	for range samples {
		size, bit := random.IntN(len(echo)), random.IntN(8*len(echo))
		attacks = append(attacks,
			attack{name: fmt.Sprint("cut after ", size), code: bytes.Clone(echo[:size]), end: bounded},
			attack{name: fmt.Sprint("bit ", bit), code: flipped(echo, bit), end: bounded})
	}
	y := newYard(t)
	y.run(t, attacks)
	for bit := range 8 * len(echo) {
		if _, err := meterCode(flipped(echo, bit), y.engine.host); err != nil && api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("with bit %d changed: %v", bit, err)
		}
		if _, err := meterCode(echo[:bit/8], y.engine.host); err != nil && api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("cut after %d bytes: %v", bit/8, err)
		}
	}
}

func flipped(code []byte, bit int) []byte {
	code = bytes.Clone(code)
	code[bit/8] ^= 1 << (bit % 8)
	return code
}

// bounded: a module whose meaning nobody knows is refused, or its request ends.
func bounded(t *testing.T, y *yard, spec sandbox.Spec) {
	spec.Wasm.Timeout = api.Duration(hogTimeout)
	h, err := y.Start(t.Context(), spec)
	if err != nil {
		if api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("error is %v", err)
		}
		return
	}
	defer func() {
		if err := h.Stop(t.Context(), 0); err != nil {
			t.Error(err)
		}
	}()
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				t.Errorf("panic: %v", p)
			}
		}()
		h.Endpoint().Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	}()
}
