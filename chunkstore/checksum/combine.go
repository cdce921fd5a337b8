package checksum

// polynomial of a CRC that begins and ends with all bits inverted. Powers of x are kept with the lowest in
// the highest bit.
type polynomial struct {
	bits  uint64
	width int
}

// join gives the CRC of a text from those of its two halves: appending n bytes multiplies what is before
// them by x to the 8n.
func (p polynomial) join(first, second uint64, n int64) uint64 {
	return p.multiply(p.power(uint64(n)*8), first) ^ second
}

// power is x to the n.
func (p polynomial) power(n uint64) uint64 {
	one := uint64(1) << (p.width - 1)
	out, square := one, one>>1
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			out = p.multiply(out, square)
		}
		square = p.multiply(square, square)
	}
	return out
}

// multiply is a times b, modulo the polynomial.
func (p polynomial) multiply(a, b uint64) (product uint64) {
	for bit := uint64(1) << (p.width - 1); bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= p.bits
		}
	}
	return product
}

func number(b []byte) (n uint64) {
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n
}

func bigEndian(n uint64, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[size-1-i] = byte(n >> (8 * i))
	}
	return b
}
