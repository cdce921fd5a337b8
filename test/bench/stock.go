package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental/sock"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// stock names the listener's guest on plain wazero, with nothing of ours around it: unmetered, on a port that
// wazero opens. It asks its descriptors without pause whether they are ready, so it is let run only while it is asked.
const stock = "stock"

// serveStock serves until the process is ended.
func serveStock(ctx context.Context) error {
	code, err := os.ReadFile("wasm-examples/" + served["listener"].path)
	if err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ctx = sock.WithConfig(ctx, sock.NewConfig().WithTCPListener(at.Addr().String(), int(at.Port())))
	r := wazero.NewRuntime(ctx)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, r); err != nil {
		return err
	}
	compiled, err := r.CompileModule(ctx, code)
	if err != nil {
		return err
	}
	go announce(address) // it ends with the process, as the guest does
	_, err = r.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithSysNanotime().WithSysWalltime().WithSysNanosleep())
	return err
}

// announce says where the guest is as soon as it listens.
func announce(address string) {
	for {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = c.Close()
			fmt.Printf("{\"ready\":true,\"http\":%q}\n", address)
			return
		}
		if rest(context.Background(), 10*time.Millisecond) != nil {
			return
		}
	}
}

// askStock measures it, after the others.
func (r *rounds) askStock(ctx context.Context, l *lab) error {
	s, err := l.startServer(ctx, stock)
	if err != nil {
		return err
	}
	_, err = s.load(ctx, warmUp)
	for range l.sandboxRuns() {
		if err == nil {
			err = r.ask(ctx, stock, s)
		}
	}
	_ = s.End(syscall.SIGKILL)
	return err
}
