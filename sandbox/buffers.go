package sandbox

import "sync"

// copyBytes is what an httputil.ReverseProxy without a pool makes for each request.
const copyBytes = 32 << 10

// Buffers is an httputil.BufferPool: the memory that a proxy copies bodies through. The zero value is ready.
type Buffers struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (b *Buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, copyBytes)
}

// Put implements httputil.BufferPool.
func (b *Buffers) Put(p []byte) { b.pool.Put(&p) }
