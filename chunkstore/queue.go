package chunkstore

import "sync"

// Every change of the store is a request. Whoever makes one queues it and then waits for its turn to
// commit; the one whose turn it is commits all that is queued, so that the others find theirs done.
// No goroutine is needed for it, and under load many requests share two flushes of the disk: one of
// the segment, then one of the index, which so never points at bytes that are not there.
type request struct {
	bytes int64 // of chunks, for the size of the group
	// store appends to the segment what is to be in it; an error fails this request alone.
	store func(*group) error
	// stage makes the changes in the index; what store appended is synced by then. What it refuses,
	// it refuses before it changes anything; that the index cannot be read is kept by the group.
	stage func(*group) error

	done bool
	err  error
}

// What one group may hold. A request that is larger is a group of its own.
const (
	maxGroupBytes    = 32 << 20
	maxGroupRequests = 256
)

// queue is what waits to be committed. Its length is bounded by the callers, each of whom has one
// request in it, and its bytes by Chunks.budget.
type queue struct {
	mu      sync.Mutex
	waiting []*request
}

func (q *queue) add(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, r)
}

// empty tells whether nothing waits.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) == 0
}

// take removes the requests of the next group.
func (q *queue) take() []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < len(q.waiting) && n < maxGroupRequests {
		bytes += q.waiting[n].bytes
		if n > 0 && bytes > maxGroupBytes {
			break
		}
		n++
	}
	group := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return group
}

// submit returns when the request is durable, or has failed.
func (c *Chunks) submit(r *request) error {
	c.queue.add(r)
	c.committing.Lock()
	defer c.committing.Unlock()
	for !r.done {
		c.commit(c.queue.take())
	}
	return r.err
}

// idle tells whether nobody commits, or waits to.
func (c *Chunks) idle() bool {
	if !c.committing.TryLock() {
		return false
	}
	defer c.committing.Unlock()
	return c.queue.empty()
}
