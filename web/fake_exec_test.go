package web

import (
	"context"
	"io"
	"sync"
)

// pipeExec is a command that the test plays.
type pipeExec struct {
	in, out chan []byte
	once    sync.Once
	closed  chan struct{}
}

func (p *pipeExec) Read(ctx context.Context) ([]byte, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case m, more := <-p.out:
		if !more {
			return nil, io.EOF
		}
		return m, nil
	}
}

func (p *pipeExec) Write(ctx context.Context, m []byte) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case p.in <- m:
		return nil
	}
}

func (p *pipeExec) Close() error {
	p.once.Do(func() {
		if p.closed != nil {
			close(p.closed)
		}
	})
	return nil
}
