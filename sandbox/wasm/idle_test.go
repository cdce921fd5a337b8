package wasm

import (
	"testing"

	"github.com/cloudless/cloudless/api"
)

// sleepless holds something for ever.
type sleepless struct{ resting }

// Where few replicas hold something, one that starts keeps its first instance for the first request. Where
// many do, it keeps none, and makes another when it is asked.
func TestOfManyReplicasNoneKeepsAnInstanceNobodyAskedFor(t *testing.T) {
	for _, test := range []struct{ others, kept int }{{warmReplicas - 1, 1}, {warmReplicas, 0}, {warmReplicas + 1, 0}} {
		d := newDriver(t)
		if err := d.group.Close(); err != nil { // nobody is asked to rest
			t.Fatal(err)
		}
		for range test.others {
			d.awake.add(&sleepless{})
		}
		site, h, _ := serve(t, d, fileSpec("../../wasm-examples/hello-c/hello.wasm", api.ModeHTTP))
		if kept := h.(*server).pool.alive(); kept != test.kept {
			t.Errorf("beside %d others it has %d instances, want %d", test.others, kept, test.kept)
		}
		if status, _ := get(t, site.URL); status != 200 {
			t.Errorf("beside %d others it answers %d", test.others, status)
		}
	}
}
