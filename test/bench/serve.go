package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/wasm"
)

// serveArg is the first argument of a process of this program that serves one guest over loopback, until
// it is told to end. The second names the guest.
const serveArg = "__serve"

// served are the guests that serve, by name.
var served = map[string]struct{ path, isolation string }{
	"c":         {"hello-c/hello.wasm", ""},
	"as":        {"hello-as/hello.wasm", ""},
	"as-pooled": {"hello-as/hello.wasm", api.IsolationInstance},
	"rust":      {"hello-rust/hello.wasm", ""},
	"go":        {"hello-go/build/hello.wasm", ""},
	"listener":  {"hello-listener-go/build/hello.wasm", ""},
}

// serve serves a guest, or "native", a handler that does what the guests do.
func serve(name string) error {
	if name == stock {
		return serveStock(context.Background())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	handler, end, err := handlerOf(ctx, name)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, end())
	}
	s := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { s.Close() })
	fmt.Printf("{\"ready\":true,\"http\":%q}\n", l.Addr())
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(err, end())
	}
	return end()
}

func handlerOf(ctx context.Context, name string) (h http.Handler, end func() error, err error) {
	if name == "native" {
		return native(io.Discard), func() error { return nil }, nil
	}
	dir, err := os.MkdirTemp("", "clb-*")
	if err != nil {
		return nil, nil, err
	}
	d, err := wasm.New(wasm.Config{CacheDir: dir, Log: zerolog.Nop()})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	end = func() error { return errors.Join(d.Close(), os.RemoveAll(dir)) }
	guest := served[name]
	path := "wasm-examples/" + guest.path
	code, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	sum := sha256.Sum256(code)
	handle, err := d.Start(ctx, sandbox.Spec{
		ID: api.NewID("r"), Workload: api.Ref{Namespace: "default", Name: "hello"}, Memory: 256 << 20,
		Wasm:     &api.WasmSpec{Mode: api.ModeHTTP, Isolation: guest.isolation},
		Artifact: path, Digest: "sha256:" + hex.EncodeToString(sum[:]),
	})
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return handle.Endpoint().Handler, end, nil
}

// native does what the guests do: it logs a line and greets.
func native(log io.Writer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(log, "INFO %s %s\n", r.Method, r.URL.RequestURI())
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "hello from Go %s\n", cmp.Or(os.Getenv("GREETING"), ""))
	})
}
