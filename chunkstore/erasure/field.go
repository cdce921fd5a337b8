package erasure

import "crypto/subtle"

// product is that in the field of 256 elements: of polynomials, modulo x⁸+x⁴+x³+x²+1.
func product(a, b byte) (p byte) {
	for ; b > 0; b >>= 1 {
		if b&1 == 1 {
			p ^= a
		}
		overflow := a&0x80 != 0
		if a <<= 1; overflow {
			a ^= 0x1d
		}
	}
	return p
}

// inverse is what gives 1 with a, which is not 0.
func inverse(a byte) (b byte) {
	for b = 1; product(a, b) != 1; b++ {
	}
	return b
}

// addTimes adds src, times c, to dst, which is no shorter.
func addTimes(dst, src []byte, c byte) {
	switch c {
	case 0:
	case 1:
		subtle.XORBytes(dst, dst[:len(src)], src)
	default:
		var table [256]byte
		for i := range table {
			table[i] = product(byte(i), c)
		}
		for i, b := range src {
			dst[i] ^= table[b]
		}
	}
}

// times is a row times a matrix.
func times(r row, m [Data]row) (out row) {
	for i, c := range r {
		addTimes(out[:], m[i][:], c)
	}
	return out
}

// invert gives the inverse of a matrix of independent rows, by elimination.
func invert(m [Data]row) [Data]row {
	out := [Data]row(rows[:Data])
	for i := range m {
		for j := i; m[i][i] == 0; j++ { // one of the rows below has what is missing here
			m[i], m[j], out[i], out[j] = m[j], m[i], out[j], out[i]
		}
		c := inverse(m[i][i])
		m[i], out[i] = scaled(m[i], c), scaled(out[i], c)
		for j := range m {
			if c := m[j][i]; j != i {
				addTimes(m[j][:], m[i][:], c)
				addTimes(out[j][:], out[i][:], c)
			}
		}
	}
	return out
}

func scaled(r row, c byte) (out row) {
	addTimes(out[:], r[:], c)
	return out
}
