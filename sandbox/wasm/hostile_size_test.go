package wasm

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

func TestHostileSize(t *testing.T) {
	newYard(t).run(t, []attack{
		{name: "memory-grow", end: tells(1024)},
		{name: "memory-grow-far", end: tells(1<<32 - 1)},
		{name: "memory-start", end: refused("unreachable")},
		{name: "memory-huge", end: refused("65536 pages")},
		{name: "memory-over", end: refused("over the limit of 1024 pages")},
		{name: "table-grow", end: tells(99_001)},
		{name: "table-huge", end: refused("table")},
		{name: "tables-many", end: refused("tables")},
		{name: "data-outside", end: refused("out of bounds memory access")},
		{name: "elem-outside", end: answers(http.StatusOK, "")}, // the engine leaves them out
		{name: "stack-deep", end: short(32<<20, answers(http.StatusBadGateway, exhausted))},
		{name: "stack-start", end: short(32<<20, refused(exhausted))},
		{name: "tables-grow", end: short(8<<20, refused("tables and globals"))},
		{name: "a local too many", code: bomb(1, 5_001, nil), end: refused("locals")},
		{name: "a block too deep", code: bomb(1, 1, nest(1_001)), end: refused("nest")},
		{name: "a branch too many", code: bomb(1, 1, branches(1, 20_001)), end: refused("20001 branches")},
		{name: "a body too long", code: bomb(1, 1, bytes.Repeat([]byte{opLocalGet, 0, opDrop}, 350_000)), end: refused("bytes of code")},
		{name: "locals times blocks", code: bomb(1, 5_000, ifs(410, 5_000)), end: refused("locals")},
		{name: "a function too many", code: bomb(100_000, 1, nil), end: refused("functions")},
		{name: "a type too many", code: typesOnly(100_001), end: refused("types")},
		{name: "a local of all too many", code: bomb(201, 5_000, nil), end: refused("1000000 locals together")},
		{name: "an entry of all too many", code: passive(200_001), end: refused("entries of tables' segments")},
		{name: "names of no functions", code: overnamed(1_000_000), end: compiles},
		{name: "many types", code: typesOnly(100_000), end: refused("neither cl_handle")},
		{name: "many parameters", code: wide(990), end: compiles},
		{name: "many names", code: named(50_000), end: compiles},
	})
}

// short has an attack run with less memory.
func short(memory api.Bytes, then end) end {
	return func(t *testing.T, y *yard, spec sandbox.Spec) {
		spec.Memory = memory
		then(t, y, spec)
	}
}

// compiles: a module that is only large runs as any other.
func compiles(t *testing.T, y *yard, spec sandbox.Spec) { exits(0, "exited with code 0")(t, y, spec) }

func typesOnly(n int) []byte {
	return bytes.Join([][]byte{magic, versionModule, section(1, leb(n), bytes.Repeat([]byte{0x60, 0, 0}, n))}, nil)
}

// wide is a module whose functions pass so many arguments to each other.
func wide(params int) []byte {
	const opCall = 0x10
	pass := []byte{0}
	for i := range params {
		pass = append(append(pass, opLocalGet), leb(i)...)
	}
	body := func(callee int) []byte {
		return append(append(bytes.Clone(pass), opCall), append(leb(callee), opEnd)...)
	}
	const functions = 100
	types, code := append(leb(functions+2), 0), [][]byte{leb(functions + 2), {2, 0, opEnd}}
	for i := range functions {
		types = append(types, 1)
		b := body(i + 2)
		code = append(code, leb(len(b)), b)
	}
	return bytes.Join([][]byte{
		magic, versionModule,
		section(1, []byte{2, 0x60, 0, 0, 0x60}, leb(params), bytes.Repeat([]byte{i32}, params), []byte{0}),
		section(3, append(types, 1)),
		section(7, []byte{1, 6}, []byte(exportStart), []byte{0, 0}),
		section(10, append(code, []byte{2, 0, opEnd})...),
	}, nil)
}

// passive is a module with a segment of n entries that no table has.
func passive(n int) []byte {
	return bytes.Join([][]byte{
		magic, versionModule, section(1, []byte{1, 0x60, 0, 0}), section(3, []byte{1, 0}),
		section(7, []byte{1, 6}, []byte(exportStart), []byte{0, 0}),
		section(9, []byte{1, 1, 0}, leb(n), make([]byte, n)),
		section(10, []byte{1, 2, 0, opEnd}),
	}, nil)
}

// overnamed is a module with n names for one function.
func overnamed(n int) []byte {
	var names []byte
	for i := range n {
		names = append(append(names, leb(i)...), 0)
	}
	return append(bomb(0, 0, nil), section(0, []byte("\x04name"), section(1, leb(n), names))...)
}

// named is a module that exports one function under n more names.
func named(n int) []byte {
	exports := [][]byte{leb(n + 1), {6}, []byte(exportStart), {0, 0}}
	for i := range n {
		exports = append(exports, []byte{4, 'a' + byte(i&15), 'a' + byte(i>>4&15), 'a' + byte(i>>8&15), 'a' + byte(i>>12&15), 0, 0})
	}
	return bytes.Join([][]byte{
		magic, versionModule, section(1, []byte{1, 0x60, 0, 0}), section(3, []byte{1, 0}),
		section(7, exports...), section(10, []byte{1, 2, 0, opEnd}),
	}, nil)
}
