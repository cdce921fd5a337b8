package wasm

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// TestRunInTheForeground: the streams are the guest's own, as it wrote them, and its exit is told.
func TestRunInTheForeground(t *testing.T) {
	var out, err bytes.Buffer
	spec := moduleSpec("cat", api.ModeJob)
	exit, cost, failed := newDriver(t).Run(t.Context(), spec, Streams{In: strings.NewReader("no end of line"), Out: &out, Err: &err})
	if failed != nil || exit.Code != 3 || out.String() != "no end of line" || err.String() != "done" {
		t.Errorf("exit %+v, %v; out %q, err %q", exit, failed, &out, &err)
	}
	if cost.Fuel <= 0 || cost.CPU <= 0 {
		t.Errorf("cost is %+v", cost)
	}
}

func TestARunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := newDriver(t)
	if err := d.Prepare(t.Context(), moduleSpec("spin", api.ModeJob)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Run(ctx, moduleSpec("spin", api.ModeJob), Streams{}); err == nil {
		t.Error("a run in an ended context has no error")
	}
}

// TestGuestsSeeTheirMounts: every instance of a replica, and nothing beside them.
func TestGuestsSeeTheirMounts(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "greeting"), []byte("hello from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := moduleSpec("reads", api.ModeHTTP)
	spec.Mounts = []sandbox.Mount{{Source: dir, Target: "/data", ReadOnly: true}}
	server, _, _ := serve(t, newDriver(t), spec)
	for range 3 {
		if status, body := get(t, server.URL+"/"); status != 200 || body != "hello from a file" {
			t.Errorf("status %d, %q", status, body)
		}
	}
	spec.Mounts[0].Source = filepath.Join(dir, "missing")
	spec.ID = "other"
	if _, err := newDriver(t).Start(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "/data") {
		t.Errorf("a mount of nothing: %v", err)
	}
}
