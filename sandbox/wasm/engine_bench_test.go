package wasm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// guests are the example in C and the one in Go, if it was built.
func guests(b *testing.B) map[string]sandbox.Spec {
	all := map[string]sandbox.Spec{"C": fileSpec("../../wasm-examples/hello-c/hello.wasm", api.ModeHTTP)}
	built := "../../wasm-examples/hello-go/build/hello.wasm"
	if _, err := os.Stat(built); err != nil {
		b.Logf("without the Go guest: %v ('make examples' builds it)", err)
	} else {
		all["Go"] = fileSpec(built, api.ModeHTTP)
	}
	return all
}

// BenchmarkColdStart loads a module's code from the disk cache, checks included.
func BenchmarkColdStart(b *testing.B) {
	for name, spec := range guests(b) {
		b.Run(name, func(b *testing.B) {
			d := newDriver(b)
			known, err := d.engine.inspect(b.Context(), spec)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				m := &module{entry: known}
				if err := d.engine.load(m); err != nil {
					b.Fatal(err)
				}
				if err := m.compiled.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFirstCompile has a child compile a module that was never seen.
func BenchmarkFirstCompile(b *testing.B) {
	for name, spec := range guests(b) {
		b.Run(name, func(b *testing.B) {
			d := newDriver(b)
			for b.Loop() {
				if _, err := d.engine.inspect(b.Context(), spec); err != nil {
					b.Fatal(err)
				}
				d.engine.forget(spec.Digest)
				if err := d.engine.cache.remove(filepath.Base(d.engine.cache.entry(spec.Digest))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStartWith10000Modules finds out about ten thousand modules that are in the cache.
func BenchmarkStartWith10000Modules(b *testing.B) {
	dir := b.TempDir()
	d, _ := newLoggedDriver(b, dir)
	specs := describedOnly(b, d, 10_000)
	for b.Loop() {
		d, err := New(Config{CacheDir: dir})
		if err != nil {
			b.Fatal(err)
		}
		for _, spec := range specs {
			if err := d.Prepare(b.Context(), spec); err != nil {
				b.Fatal(err)
			}
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
