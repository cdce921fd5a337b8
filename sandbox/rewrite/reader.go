package rewrite

import "fmt"

// reader reads the binary format. Its first error stays and ends all further reads, so that callers
// check once.
type reader struct {
	data []byte // the whole module
	pos  int
	end  int // of what may be read now
	err  *Error
}

func (r *reader) fail(format string, args ...any) {
	r.failAt(r.pos, format, args...)
}

func (r *reader) failAt(offset int, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Offset: offset, Reason: fmt.Sprintf(format, args...)}
	}
	r.pos = r.end
}

// more says whether there is something left to read.
func (r *reader) more() bool { return r.err == nil && r.pos < r.end }

func (r *reader) byte() byte {
	if r.pos >= r.end {
		r.fail("it ends too early")
		return 0
	}
	b := r.data[r.pos]
	r.pos++
	return b
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > r.end-r.pos {
		r.fail("it ends too early: %d bytes are wanted and %d are left", n, r.end-r.pos)
		return nil
	}
	b := r.data[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return b
}

// unsigned reads an unsigned LEB128 number of at most so many bits.
func (r *reader) unsigned(bits int) uint64 {
	var v uint64
	start := r.pos
	for shift := 0; ; shift += 7 {
		b := r.byte()
		if r.err != nil {
			return 0
		}
		if left := bits - shift; left < 7 && b>>max(left, 0) != 0 {
			r.failAt(start, "a number has more than %d bits", bits)
			return 0
		}
		v |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			return v
		}
	}
}

// signed reads a signed LEB128 number of at most so many bits.
func (r *reader) signed(bits int) int64 {
	var v int64
	start := r.pos
	for shift := 0; ; shift += 7 {
		b := r.byte()
		if r.err != nil {
			return 0
		}
		if left := bits - shift; left < 7 {
			// the bits beyond must all be like the sign
			sign := int8(b<<1) >> left
			if b&0x80 != 0 || sign != 0 && sign != -1 {
				r.failAt(start, "a number has more than %d bits", bits)
				return 0
			}
		}
		v |= int64(b&0x7f) << shift
		if b&0x80 == 0 {
			if b&0x40 != 0 && shift+7 < 64 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
}

func (r *reader) u32() uint32 { return uint32(r.unsigned(32)) }

// number reads what an instruction leaves on the stack that is a constant.
func (r *reader) number(op byte) {
	switch op {
	case opI32Const:
		r.signed(32)
	case opI64Const:
		r.signed(64)
	case opF32Const:
		r.bytes(4)
	case opF64Const:
		r.bytes(8)
	}
}

// count reads the length of a vector whose elements have at least one byte each.
func (r *reader) count(what string, most int) int {
	start := r.pos
	n := int64(r.u32()) // which 32 bits of an int might take for less than nothing
	switch {
	case r.err != nil:
		return 0
	case n > int64(most):
		r.failAt(start, "%d %s: at most %d are allowed", n, what, most)
		return 0
	case n > int64(r.end-r.pos):
		r.failAt(start, "%d %s do not fit into the %d bytes that are left", n, what, r.end-r.pos)
		return 0
	}
	return int(n)
}

// index reads an index of something of which the module itself has so many. What this package adds
// lies behind, and no guest may reach it.
func (r *reader) index(what string, have int) uint32 {
	at := r.pos
	i := r.u32()
	if r.err == nil && int64(i) >= int64(have) {
		r.failAt(at, "%s %d of %d", what, i, have)
	}
	return i
}

// name reads a name; that it is UTF-8 is checked where it matters.
func (r *reader) name() string { return string(r.bytes(int(r.u32()))) }

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendS64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, name string) []byte {
	return append(appendU32(b, uint32(len(name))), name...)
}
