package wasm

import (
	"testing"
	"testing/synctest"
	"time"

	wapi "github.com/tetratelabs/wazero/api"

	"github.com/cloudless/cloudless/sandbox/linear"
)

// lone is a global of no module.
type lone struct {
	wapi.MutableGlobal
	value uint64
}

func (n *lone) Get() uint64  { return n.value }
func (n *lone) Set(v uint64) { n.value = v }

// TestATickThatWaitsForItsShareCountsNoWork: else the wait would be owed, and waited for, again.
func TestATickThatWaitsForItsShareCountsNoWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, worked := range []time.Duration{leastTurn - 1, leastTurn} {
			i := &instance{base: &base{quota: newQuota(10)}, stack: &lone{}, region: &linear.Region{}, bounds: t.Context()}
			i.ctx = &callContext{t.Context(), i}
			i.clock.meter, i.tank.meter, i.tank.level = &i.used, &i.used, &lone{}
			i.quota.take(i.quota.burst(), sinceEpoch())
			i.clock.start()
			time.Sleep(worked)
			began := sinceEpoch()
			tick(i.ctx, nil, nil)
			if sinceEpoch() == began {
				t.Fatal("it had nothing to wait for")
			}
			if got := i.clock.lap(); got != 0 || i.used.cost().CPU != worked {
				t.Errorf("after %v of work, %v count, %v of them since the tick", worked, i.used.cost().CPU, got)
			}
		}
	})
}
