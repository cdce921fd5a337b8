package wasm

import (
	"context"
	"io"

	"github.com/cloudless/cloudless/sandbox"
)

// Streams connect a guest to whoever runs it.
type Streams struct {
	In       io.Reader // nil: empty
	Out, Err io.Writer
}

// Run runs a module's _start in the foreground, with the streams in place of a log, and tells how it
// ended and what it used. When ctx ends, so does the guest. A Read of In may outlast it.
func (d *Driver) Run(ctx context.Context, spec sandbox.Spec, streams Streams) (sandbox.Exit, sandbox.Cost, error) {
	known, _, err := d.inspect(ctx, spec)
	if err != nil {
		return sandbox.Exit{}, sandbox.Cost{}, err
	}
	spec.Log = streams.Err // for what the host has to say
	b, err := newBase(d, known, spec)
	if err != nil {
		return sandbox.Exit{}, sandbox.Cost{}, err
	}
	p, err := newProcess(ctx, b)
	if err != nil {
		b.abandon()
		return sandbox.Exit{}, sandbox.Cost{}, err
	}
	p.streams = &streams
	if err := d.admit(p); err != nil {
		p.drop()
		return sandbox.Exit{}, sandbox.Cost{}, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		err = p.Stop(context.WithoutCancel(ctx), 0)
	}
	return p.Exit(), b.cost(), err
}
