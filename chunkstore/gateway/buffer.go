package gateway

import (
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/cloudless/cloudless/chunkstore"
)

// buffer is memory for one chunk that several hold at once: the one who reads the object, and one for
// each copy that is on its way.
type buffer struct {
	memory *[]byte
	bytes  []byte // what it holds
	refs   atomic.Int32
	budget *semaphore.Weighted // that it counts against; nil: it is the one that its holder has in hand
	size   int64
}

// held counts the buffers in use, for tests.
var held atomic.Int64

// newBuffer gives an empty buffer for n bytes.
func newBuffer(n int) *buffer {
	memory := chunkstore.GetBuffer(n)
	b := &buffer{memory: memory, bytes: (*memory)[:0], size: int64(n)}
	b.refs.Store(1)
	held.Add(1)
	return b
}

// spareBuffer is newBuffer if there is memory to spare, else nil.
func (g *Gateway) spareBuffer(n int) *buffer {
	if !g.spare.TryAcquire(int64(n)) {
		return nil
	}
	b := newBuffer(n)
	b.budget = g.spare
	return b
}

// free lets the buffer count against no budget any more.
func (b *buffer) free() {
	if b.budget != nil {
		b.budget.Release(b.size)
		b.budget = nil
	}
}

func (b *buffer) hold() { b.refs.Add(1) }

func (b *buffer) drop() {
	if b == nil || b.refs.Add(-1) > 0 {
		return
	}
	b.free()
	chunkstore.PutBuffer(b.memory)
	held.Add(-1)
}
