package wasm

import "bytes"

// Modules that are slow to compile, or want much memory for it, within all of rewrite's limits.

// leb is a number in the binary format's unsigned encoding.
func leb(n int) []byte {
	var out []byte
	for {
		b := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

func section(id byte, parts ...[]byte) []byte {
	content := bytes.Join(parts, nil)
	return append(append([]byte{id}, leb(len(content))...), content...)
}

// bomb is a module whose _start returns at once, beside so many functions that nobody calls, each
// with so many i32 locals and the same body.
func bomb(functions, locals int, body []byte) []byte {
	code := [][]byte{leb(functions + 1), {2, 0, opEnd}}
	types := append(leb(functions+1), make([]byte, functions+1)...)
	one := bytes.Join([][]byte{{1}, leb(locals), {i32}, body, {opEnd}}, nil)
	for range functions {
		code = append(code, leb(len(one)), one)
	}
	return bytes.Join([][]byte{
		magic, versionModule,
		section(1, []byte{1, 0x60, 0, 0}),
		section(3, types),
		section(7, []byte{1, 6}, []byte(exportStart), []byte{0, 0}),
		section(10, code...),
	}, nil)
}

const (
	i32        = 0x7f
	blockVoid  = 0x40
	opBlock    = 0x02
	opIf       = 0x04
	opElse     = 0x05
	opEnd      = 0x0b
	opBrTable  = 0x0e
	opDrop     = 0x1a
	opLocalGet = 0x20
	opLocalSet = 0x21
	opI32Const = 0x41
	opI32Add   = 0x6a
)

// ifs sets another local in each of n conditions, so that each local has many values that meet.
func ifs(n, locals int) []byte {
	var out []byte
	for i := range n {
		out = append(out, opLocalGet, 0, opIf, blockVoid, opI32Const, 1, opLocalSet)
		out = append(out, leb(i%locals)...)
		out = append(out, opElse, opI32Const, 2, opLocalSet)
		out = append(append(out, leb((i*7+1)%locals)...), opEnd)
	}
	return out
}

// sum reads all locals once more.
func sum(locals int) []byte {
	out := []byte{opLocalGet, 0}
	for i := range locals {
		out = append(append(append(out, opLocalGet), leb(i)...), opI32Add)
	}
	return append(out, opDrop)
}

// nest is n blocks, one in the other.
func nest(n int) []byte {
	return append(append(bytes.Repeat([]byte{opBlock, blockVoid}, n), ifs(1, 1)...), bytes.Repeat([]byte{opEnd}, n)...)
}

// branches is n br_tables of so many targets.
func branches(n, targets int) []byte {
	one := append([]byte{opBlock, blockVoid, opLocalGet, 0, opBrTable}, leb(targets)...)
	one = append(append(one, make([]byte, targets+1)...), opEnd)
	return bytes.Repeat(one, n)
}

// pile puts n different values on the stack and then adds them up, so that all are alive at once.
func pile(n int) []byte {
	var out []byte
	for i := range n {
		out = append(append(out, opLocalGet), leb(i%5000)...)
	}
	return append(append(out, bytes.Repeat([]byte{opI32Add}, n-1)...), opDrop)
}
