package wasm

import (
	"context"

	"github.com/tetratelabs/wazero"
	wapi "github.com/tetratelabs/wazero/api"

	"github.com/cloudless/cloudless/sandbox/wasi"
)

// exportWASI makes the host module of WASI preview 1 out of our own.
func exportWASI(ctx context.Context, r wazero.Runtime) error {
	b := r.NewHostModuleBuilder(wasi.Module)
	for _, f := range wasi.Functions() {
		b.NewFunctionBuilder().WithGoModuleFunction(wasiFunction(f), f.Params, f.Results).Export(f.Name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

func wasiFunction(f wasi.Function) wapi.GoModuleFunc {
	return metered(func(ctx context.Context, m wapi.Module, stack []uint64) {
		f.Call(caller(ctx).world, m.Memory(), stack)
	})
}

// openWorld makes what the guest sees.
func (i *instance) openWorld(l *wasi.Listener) (err error) {
	i.world, err = wasi.New(wasi.Config{
		Args: i.args(), Env: i.env, Mounts: i.mounts, Listener: l,
		Wait: i.clock.wait, Charge: i.tank.charge,
	})
	return err
}
