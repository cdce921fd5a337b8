package rewrite

// A small assembler for the tests: sections and functions as bytes.

type funcDef struct {
	typ    uint32
	locals []byte // as written: count of groups, then each group's number and type
	code   []byte // with its end
}

// moduleDef is a module to assemble; the types are () -> (), (i32) -> (i32), () -> (i32 i32), and then its own.
type moduleDef struct {
	types    [][]byte
	imports  []byte // content of the section
	funcs    []funcDef
	tables   []byte
	memory   []byte
	globals  []byte
	exports  []export
	start    []byte
	elems    []byte
	data     []byte
	count    []byte
	trailing []byte // whole sections at the end
}

func vec(items ...[]byte) []byte {
	b := appendU32(nil, uint32(len(items)))
	for _, i := range items {
		b = append(b, i...)
	}
	return b
}

func cat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func (d moduleDef) bytes() []byte {
	out := cat(magic, version)
	types := [][]byte{{0x60, 0, 0}, {0x60, 1, typeI32, 1, typeI32}, {0x60, 0, 2, typeI32, typeI32}}
	out = section(out, secType, vec(append(types, d.types...)...))
	out = section(out, secImport, d.imports)
	funcs, codes := appendU32(nil, uint32(len(d.funcs))), appendU32(nil, uint32(len(d.funcs)))
	for _, f := range d.funcs {
		funcs = appendU32(funcs, f.typ)
		locals := f.locals
		if locals == nil {
			locals = []byte{0}
		}
		codes = appendU32(codes, uint32(len(locals)+len(f.code)))
		codes = cat(codes, locals, f.code)
	}
	if len(d.funcs) > 0 {
		out = section(out, secFunction, funcs)
	}
	out = section(out, secTable, d.tables)
	out = section(out, secMemory, d.memory)
	out = section(out, secGlobal, d.globals)
	if len(d.exports) > 0 {
		b := appendU32(nil, uint32(len(d.exports)))
		for _, e := range d.exports {
			b = appendU32(append(appendName(b, e.name), e.kind), e.index)
		}
		out = section(out, secExport, b)
	}
	out = section(out, secStart, d.start)
	out = section(out, secElement, d.elems)
	out = section(out, secDataCount, d.count)
	if len(d.funcs) > 0 {
		out = section(out, secCode, codes)
	}
	out = section(out, secData, d.data)
	return append(out, d.trailing...)
}

func imp(module, name string, kind byte, typ ...byte) []byte {
	return append(append(appendName(appendName(nil, module), name), kind), typ...)
}

func fn(code ...byte) funcDef { return funcDef{code: append(code, opEnd)} }

// spin is a function that loops for ever; down counts its argument down and returns it.
var (
	spin = fn(opLoop, blockEmpty, opBr, 0, opEnd)
	down = funcDef{typ: 1, code: []byte{
		opLoop, blockEmpty, opLocalGet, 0, opI32Const, 1, opI32Sub, opLocalTee, 0, opBrIf, 0, opEnd, opLocalGet, 0, opEnd,
	}}
	recurse = fn(opCall, 0)
)
