package wasm

import (
	"context"
	"fmt"
	"time"

	wapi "github.com/tetratelabs/wazero/api"

	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// process is a replica of mode service or job: one instance, whose _start runs once.
type process struct {
	*base
	group    *run.Group
	instance wapi.Module
	out, err *lines
}

// newProcess links the module and runs its start section, if it has one; _start comes with begin.
func newProcess(ctx context.Context, b *base) (*process, error) {
	p := &process{base: b, group: run.New(context.Background()), out: &lines{sink: b.log}, err: &lines{sink: b.log}}
	ctx, cancel := initContext(ctx)
	defer cancel()
	mem := b.memory.open(0)
	config := b.config.WithStdout(p.out).WithStderr(p.err).WithNanosleep(b.sleeper(func() context.Context { return b.ctx }))
	var err error
	if p.instance, err = b.instantiate(b.guestContext(ctx, nil), config, mem); err != nil {
		b.cancel()
		return nil, startError(ctx, err)
	}
	return p, nil
}

// sleeper is a nanosleep that ends with the context of the call that sleeps.
func (b *base) sleeper(current func() context.Context) func(ns int64) {
	return func(ns int64) {
		timer := time.NewTimer(time.Duration(ns))
		defer timer.Stop()
		b.meter.wait(func() {
			select {
			case <-timer.C:
			case <-current().Done():
			}
		})
	}
}

// begin implements replica: it runs the guest in the background.
func (p *process) begin() {
	p.group.Go("wasm replica "+p.ID(), func(context.Context) error {
		p.meter.enter()
		_, err := p.instance.ExportedFunction(exportStart).Call(p.guestContext(p.ctx, nil))
		p.meter.leave()
		p.close(p.exitOf(err))
		return nil
	})
}

func (p *process) exitOf(err error) sandbox.Exit {
	if p.ctx.Err() != nil {
		return sandbox.Exit{Code: codeForced, Reason: "stopped: a wasm guest has no signals, so it was ended by force"}
	}
	if code, ok := exitCode(err); ok {
		return sandbox.Exit{Code: code, Reason: fmt.Sprintf("exited with code %d", code)}
	}
	reason := failure(err)
	p.log.printf("cloudless: %s", reason)
	return sandbox.Exit{Code: codeTrap, Reason: reason}
}

func (p *process) close(exit sandbox.Exit) {
	p.finish(exit, func() {
		_ = p.instance.Close(context.Background()) // it only frees memory
		p.out.end()
		p.err.end()
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
