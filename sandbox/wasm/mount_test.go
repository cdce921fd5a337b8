package wasm

import (
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/wasi"
)

// A mount's limit bounds what its guests put into it, in bytes and in names; what is only read has none.
func TestAVolumesLimitIsTheGuests(t *testing.T) {
	for mount, want := range map[sandbox.Mount]wasi.VolumeLimits{
		{}:                               {},
		{Limit: 1 << 30, ReadOnly: true}: {},
		{Limit: 1 << 20}:                 {Bytes: 1 << 20, Names: minNames},
		{Limit: 1 << 30}:                 {Bytes: 1 << 30, Names: 1 << 18},
	} {
		mount.Source, mount.Target = t.TempDir(), "/data"
		if got := volumeLimits(mount); got != want {
			t.Errorf("%+v: %+v", mount, got)
		}
		b := &base{spec: sandbox.Spec{Mounts: []sandbox.Mount{mount}, Memory: api.DefaultWasmMemory}}
		if err := b.openVolumes(); err != nil || b.mounts[0].ReadOnly != mount.ReadOnly {
			t.Errorf("%+v: %+v, %v", mount, b.mounts, err)
			continue
		}
		if err := b.mounts[0].Volume.Close(); err != nil {
			t.Error(err)
		}
	}
}
