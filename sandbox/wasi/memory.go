package wasi

import (
	"encoding/binary"
	"math"
	"strings"
	"unicode/utf8"
)

const (
	maxPathBytes = 4096 // as Linux has it
	maxBuffers   = 1024 // in one call, as Linux has it
	// chunkBytes is how much is moved at a time: the context is looked at and Charge called in between.
	chunkBytes = 64 << 10
)

// Memory is a guest's linear memory; wazero's api.Memory is one. Read returns a view of it, not a copy.
// No view outlives the function that asked for it.
type Memory interface {
	Read(offset, byteCount uint32) ([]byte, bool)
}

type memory struct{ Memory }

// view is the guest's memory from ptr on. Nothing lies anywhere: languages give an empty slice any
// address.
func (m memory) view(ptr, length uint32) ([]byte, error) {
	if length == 0 {
		return nil, nil
	}
	if m.Memory == nil {
		return nil, eFault
	}
	p, ok := m.Read(ptr, length)
	if !ok {
		return nil, eFault
	}
	return p, nil
}

func (m memory) putU32(ptr, v uint32) error {
	p, err := m.view(ptr, 4)
	if err == nil {
		binary.LittleEndian.PutUint32(p, v)
	}
	return err
}

func (m memory) putU64(ptr uint32, v uint64) error {
	p, err := m.view(ptr, 8)
	if err == nil {
		binary.LittleEndian.PutUint64(p, v)
	}
	return err
}

// path reads a path. An absolute one leaves every mount.
func (m memory) path(ptr, length uint32) (string, error) {
	switch {
	case length == 0:
		return "", eNoent
	case length > maxPathBytes:
		return "", eNametoolong
	}
	p, err := m.view(ptr, length)
	if err != nil {
		return "", err
	}
	path := string(p)
	switch {
	case !utf8.ValidString(path):
		return "", eIlseq
	case strings.ContainsRune(path, 0):
		return "", eInval
	case path[0] == '/':
		return "", ePerm
	}
	return path, nil
}

// buffers calls move for each of count buffers that a guest describes at ptr, in pieces of at most
// chunkBytes, until one is not moved as a whole, and returns what was moved together. first is set for
// the first piece, the only one that may wait. All buffers are looked at before anything is moved. An
// error after something was moved comes with the next call, as POSIX has it.
func (w *World) buffers(m memory, ptr, count uint32, move func(p []byte, first bool) (int, error)) (uint32, error) {
	if count > maxBuffers {
		return 0, eInval
	}
	list, err := m.view(ptr, count*8)
	if err != nil {
		return 0, err
	}
	if err := checkBuffers(m, list); err != nil {
		return 0, err
	}
	moved := uint32(0)
	for ; len(list) > 0; list = list[8:] {
		p, _ := m.view(buffer(list))
		for len(p) > 0 {
			piece := p[:min(len(p), chunkBytes)]
			w.ended()
			w.config.Charge(len(piece))
			n, err := move(piece, moved == 0)
			moved += uint32(n)
			if n < len(piece) || err != nil {
				if moved > 0 {
					err = nil
				}
				return moved, err
			}
			p = p[n:]
		}
	}
	return moved, nil
}

func buffer(list []byte) (ptr, length uint32) {
	return binary.LittleEndian.Uint32(list), binary.LittleEndian.Uint32(list[4:])
}

func checkBuffers(m memory, list []byte) error {
	var total uint64
	for ; len(list) > 0; list = list[8:] {
		ptr, length := buffer(list)
		if _, err := m.view(ptr, length); err != nil {
			return err
		}
		total += uint64(length)
	}
	if total > math.MaxInt32 {
		return eInval
	}
	return nil
}
