package chunkstore

import (
	"context"
	"crypto/sha256"
	"runtime"
	"sync/atomic"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// preparation is what can be done for a put on all processors: before its turn to commit comes or, when nobody
// else commits, while the first records are on their way to the disk.
type preparation struct {
	c       *Chunks
	records []*record
	next    atomic.Int64
	missing atomic.Int64 // bytes that are not here yet, of the records that are ready

	group *run.Group      // does it; nil if it is done
	ready []chan struct{} // of each record; closed when the group has prepared it
}

// prepare begins with a preparation. With one worker it is done, or has failed, at once.
func (c *Chunks) prepare(records []*record) (*preparation, error) {
	p := &preparation{c: c, records: records}
	workers := min(runtime.GOMAXPROCS(0), len(records))
	if workers == 1 {
		return p, p.work(func(int64) {})
	}
	p.ready = make([]chan struct{}, len(records))
	for i := range p.ready {
		p.ready[i] = make(chan struct{})
	}
	p.group = run.New(context.Background())
	for range workers {
		p.group.Go("prepare a put", func(context.Context) error {
			return p.work(func(i int64) { close(p.ready[i]) })
		})
	}
	return p, nil
}

// work prepares records, the next in turn each time.
func (p *preparation) work(ready func(i int64)) error {
	for i := p.next.Add(1) - 1; i < int64(len(p.records)); i = p.next.Add(1) - 1 {
		n, err := p.c.prepareOne(p.records[i])
		if err != nil {
			return err
		}
		p.missing.Add(n)
		ready(i)
	}
	return nil
}

func (p *preparation) running() bool { return p.group != nil }

// whole waits for all records, and finds out whether there is room for what is not here.
func (p *preparation) whole() error {
	if p.running() {
		if err := p.group.Wait(); err != nil {
			return err
		}
	}
	if missing := p.missing.Load(); missing > 0 {
		return p.c.room.admit(missing, p.c.used())
	}
	return nil
}

// each calls f with the records in turn, each as soon as it is ready, until one cannot be prepared or f fails.
func (p *preparation) each(f func(*record) error) error {
	for i, r := range p.records {
		if p.running() {
			select {
			case <-p.ready[i]:
			case <-p.group.Context().Done():
				return p.group.Wait()
			}
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// close gives back what the records have taken.
func (p *preparation) close() {
	if p.running() {
		_ = p.group.Wait() // its error was told, or the put has failed for another reason
	}
	for _, r := range p.records {
		r.release()
	}
}

// prepareOne compares the digest and, unless the chunk is here, compresses it and returns its size.
func (c *Chunks) prepareOne(r *record) (int64, error) {
	if !r.summed {
		if got := key(sha256.Sum256(r.data)); got != r.key {
			return 0, api.Errorf(api.CodeUnsupMedia, "the bytes are %s, announced was %s", got, r.key).
				WithHint("the chunk was changed on its way; send it again")
		}
	}
	if has, err := c.has(r.key); has || err != nil {
		return 0, err
	}
	r.encode()
	return headBytes + int64(len(r.body)), nil
}
