package wasm

import (
	"context"
	"time"

	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// process is a replica of mode service or job: one instance, whose _start runs once.
type process struct {
	*base
	group    *run.Group
	code     *module
	instance *instance
	streams  *Streams // nil: output goes to the log, and there is no input
}

// newProcess links the module and runs its start section, if it has one; _start comes with begin.
func newProcess(ctx context.Context, b *base) (*process, error) {
	p := &process{base: b, group: run.New(context.Background())}
	var err error
	if p.code, err = b.driver.engine.acquire(ctx, b.spec); err != nil {
		return nil, err
	}
	ctx, cancel := initContext(ctx)
	defer cancel()
	mem := b.budget.Open(0, 0)
	if p.instance, err = b.newInstance(ctx, origin{code: p.code}, mem); err != nil {
		mem.Close()
		b.driver.engine.release(p.code)
		return nil, startError(ctx, err)
	}
	return p, nil
}

// begin implements replica: it runs the guest in the background.
func (p *process) begin() {
	p.group.Go("wasm replica "+p.ID(), func(context.Context) error {
		i := p.instance
		if s := p.streams; s != nil {
			i.world.Bind(p.ctx, s.In, s.Out, s.Err)
		} else {
			i.world.Bind(p.ctx, nil, i.out, i.err)
		}
		p.close(p.exitOf(i.call(p.ctx, i.export(exportStart))))
		return nil
	})
}

func (p *process) close(exit sandbox.Exit) {
	p.finish(exit, func() {
		p.instance.close()
		p.driver.engine.release(p.code)
	})
}

// Stop implements sandbox.Handle. WASI preview 1 has no signals, so there is nothing to wait for: the
// guest is ended at once.
func (p *process) Stop(context.Context, time.Duration) error {
	p.cancel()
	return p.gone()
}

// abort implements replica.
func (p *process) abort() { p.cancel() }

// drop undoes newProcess for a process that was not begun.
func (p *process) drop() { p.close(p.exitOf(nil)) }

// Endpoint implements sandbox.Handle: a process serves no requests.
func (p *process) Endpoint() sandbox.Endpoint { return sandbox.Endpoint{} }
