package reconcile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// However many workloads find no room at once, one plan is an entry that the log takes; the next one goes on.
func TestAPlanIsNoLargerThanAnEntry(t *testing.T) {
	const bytes = 1 << 20 // an eighth of what coordinator/consensus takes, for placements come with them
	w := newWorld(t)
	for i := range 2*maxNotes + 1 {
		work := api.Workload{Metadata: api.Metadata{Namespace: strings.Repeat("n", api.MaxNameLen), Name: fmt.Sprintf("%s%05d", strings.Repeat("w", api.MaxNameLen-5), i)}}
		work.Spec.Wasm = &api.WasmSpec{Module: "m.wasm", Mode: api.ModeHTTP}
		w.must(state.Command{PutWorkload: &state.PutWorkload{Workload: work, UID: fmt.Sprint("w-", i)}})
	}
	for _, want := range []int{maxNotes, maxNotes, 1, 0} {
		res := Plan(w.store.View(), Signals{ProcessStart: w.start}, w.now)
		data, err := state.Command{Batch: res.Commands}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Commands) != want || res.Next.Equal(w.now) != (want == maxNotes) || len(data) > bytes {
			t.Errorf("%d notes in %d bytes, the next at %s; want %d", len(res.Commands), len(data), res.Next.Format(time.TimeOnly), want)
		}
		if want > 0 {
			w.must(state.Command{Batch: res.Commands})
		}
	}
}
