package wasm

import (
	"context"
	"sync"
)

// loaded is what a server has while it has instances: its module's code, and the image that instances
// are put back to.
type loaded struct {
	use   sync.RWMutex // held for reading while an instance is made
	mu    sync.Mutex   // held while one of the others changes
	code  *module
	image *image
}

// get loads the code, unless it is there, and tells what instances start from; nil if nothing yet.
func (l *loaded) get(ctx context.Context, b *base) (*module, *image, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.code == nil {
		code, err := b.driver.engine.acquire(ctx, b.spec)
		if err != nil {
			return nil, nil, err
		}
		l.code = code
	}
	return l.code, l.image, nil
}

// keep makes what i is now the image that all instances start from. If there is one by now, i is made
// the same as the others.
func (l *loaded) keep(i *instance) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.image != nil {
		i.image = l.image
		return i.restore()
	}
	l.image, err = i.capture()
	return err
}

// rest is forget that waits for nobody: while an instance is made, there is one.
func (l *loaded) rest(p *pool, e *engine) bool {
	if !l.use.TryLock() {
		return false
	}
	defer l.use.Unlock()
	return l.drop(p, e)
}

// forget lets go of everything, unless there are instances again.
func (l *loaded) forget(p *pool, e *engine) {
	l.use.Lock()
	defer l.use.Unlock()
	l.drop(p, e)
}

// drop is forget while l.use is held.
func (l *loaded) drop(p *pool, e *engine) bool {
	if p.alive() > 0 {
		return false
	}
	if l.image != nil {
		l.image.close()
	}
	if l.code != nil {
		e.release(l.code)
	}
	l.image, l.code = nil, nil
	return true
}
