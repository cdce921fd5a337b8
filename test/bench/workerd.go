package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cloudless/cloudless/test/process"
)

// The peer's servers: a handler in JavaScript, and our AssemblyScript guest with one instance for all
// requests, or one for each.
const (
	peerJS       = "workerd-js"
	peerReused   = "workerd-reused"
	peerIsolated = "workerd-isolated"
)

var errNoPeer = errors.New("workerd is not on this machine: npm install workerd, and name node_modules/.bin/workerd by -workerd")

//go:embed workerd.js
var peerScript []byte

const peerConfig = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = (
    modules = [(name = "worker", esModule = embed "worker.js"), (name = "guest.wasm", wasm = embed "guest.wasm")],
    bindings = [(name = "WAY", text = "%s")],
    compatibilityDate = "2025-01-01"))],
  sockets = [(name = "http", address = "%s", http = (), service = "main")]);
`

// startPeer runs workerd. With -control-fd it says on standard output when it listens.
func (l *lab) startPeer(ctx context.Context, name string) (*server, error) {
	binary, err := exec.LookPath(l.workerd)
	if err != nil {
		return nil, errNoPeer
	}
	guest, err := os.ReadFile("wasm-examples/" + served["as"].path)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.dir, name)
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "config.capnp")
	err = errors.Join(
		os.WriteFile(config, fmt.Appendf(nil, peerConfig, name, address), 0o600),
		os.WriteFile(filepath.Join(dir, "worker.js"), peerScript, 0o600),
		os.WriteFile(filepath.Join(dir, "guest.wasm"), guest, 0o600))
	if err != nil {
		return nil, err
	}
	p, err := process.Start(ctx, process.Config{Binary: binary, Args: []string{"serve", "--control-fd=1", config}})
	if err != nil {
		return nil, err
	}
	return &server{p, address}, nil
}
