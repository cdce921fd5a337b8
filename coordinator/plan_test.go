package coordinator

import (
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// A plan's changes are what the manifest says differently, labels included; a new workload is all new.
func TestDiffOfWorkloads(t *testing.T) {
	n := func(replicas int, env string, labels map[string]string) *api.Workload {
		w := &api.Workload{Metadata: api.Metadata{Name: "w", Labels: labels}}
		w.Spec.Replicas, w.Spec.Wasm = &replicas, &api.WasmSpec{Module: "m"}
		if env != "" {
			w.Spec.Env = map[string]string{"E": env}
		}
		return w
	}
	for _, tt := range []struct {
		name     string
		old, now *api.Workload
		want     string
	}{
		{"same", n(1, "x", nil), n(1, "x", nil), ""},
		{"count", n(1, "", nil), n(2, "", nil), "spec.replicas 1>2"},
		{"gone", n(1, "x", nil), n(1, "", nil), `spec.env.E "x">`},
		{"labels", n(1, "", map[string]string{"a": "b"}), n(1, "", map[string]string{"c": "d"}), `metadata.labels.a "b">, metadata.labels.c >"d"`},
	} {
		var got []string
		for _, c := range diff(tt.old, tt.now) {
			got = append(got, c.Field+" "+c.Old+">"+c.New)
		}
		if text := strings.Join(got, ", "); text != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, text, tt.want)
		}
	}
	for _, c := range diff(nil, n(1, "x", nil)) {
		if c.Old != "" || c.New == "" || c.Field == "spec" {
			t.Errorf("of a new workload: %+v", c)
		}
	}
}
