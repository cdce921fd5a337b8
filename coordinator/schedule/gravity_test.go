package schedule

import (
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// Nodes are favoured by the bytes that they hold of what a replica needs: of two that hold something, the
// one with more bytes wins, be they of the artifact or of a mounted bucket; what a node holds of other
// buckets, or of one that replicas write to, counts for nothing.
func TestDataGravity(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	mounts := func(buckets ...string) []api.Volume {
		var list []api.Volume
		for _, b := range buckets {
			list = append(list, api.Volume{Bucket: b, Path: "/" + b, ReadOnly: true})
		}
		return list
	}
	written := api.Volume{Bucket: "large", Path: "/large"}
	held := map[string]Held{"large": {"n2": 1 << 30, "n3": 1 << 29, "gone": 1 << 40}, "small": {"n3": 1 << 20}, "other": {"n1": 1 << 40}}
	for _, tt := range []struct {
		name     string
		volumes  []api.Volume
		artifact int64
		chosen   string
		held     [3]api.Bytes // of n1, n2, n3
		needed   api.Bytes
	}{
		{"the artifact alone", nil, 1 << 20, "n1", [3]api.Bytes{1 << 20, 0, 0}, 1 << 20},
		{"an artifact of unknown size", nil, 0, "n1", [3]api.Bytes{unknownArtifact, 0, 0}, unknownArtifact},
		{"a large bucket outweighs a small artifact", mounts("large"), 1 << 20, "n2", [3]api.Bytes{1 << 20, 1 << 30, 1 << 29}, 1<<30 + 1<<20},
		{"a small bucket does not outweigh a large artifact", mounts("small"), 1 << 30, "n1", [3]api.Bytes{1 << 30, 0, 1 << 20}, 1<<30 + 1<<20},
		{"what is held of several adds up", mounts("large", "small"), 1 << 20, "n2", [3]api.Bytes{1 << 20, 1 << 30, 1<<29 + 1<<20}, 1<<30 + 2<<20},
		{"a bucket that is written to is nowhere", []api.Volume{written}, 1 << 20, "n1", [3]api.Bytes{1 << 20, 0, 0}, 1 << 20},
		{"a bucket that nobody holds", mounts("nothing"), 1 << 20, "n1", [3]api.Bytes{1 << 20, 0, 0}, 1 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFill(t)
			for _, id := range []string{"n1", "n2", "n3"} {
				f.node(id, nil)
			}
			c := New(f.store.View(), Signals{
				Holders: func(string) []string { return []string{"n1"} },
				Size:    func(string) int64 { return tt.artifact },
				Held:    func(bucket string) Held { return held[bucket] },
			})
			w := workload("a", func(s *api.WorkloadSpec) { s.Wasm.Module, s.Volumes = digest, tt.volumes })
			p, ok := c.Place(w)
			if !ok || p.NodeID != tt.chosen {
				t.Errorf("placed on %q, want %s: %+v", p.NodeID, tt.chosen, p.Decision)
			}
			for i, row := range c.Explain(w) {
				if row.Held != tt.held[i] || row.Needed != tt.needed {
					t.Errorf("%s holds %s of %s, want %s of %s", row.Node, row.Held, row.Needed, tt.held[i], tt.needed)
				}
				if most := p.Decision.Best[0].Parts["locality"]; row.Score.Parts["locality"] > most {
					t.Errorf("%s has %v points for what it holds, the best %v", row.Node, row.Score.Parts["locality"], most)
				}
			}
		})
	}
}
