package cli

import (
	"testing"

	"github.com/cloudless/cloudless/agent"
)

func TestHowMuchAStoreMayUse(t *testing.T) {
	for text, want := range map[string]agent.Storage{
		"auto": {}, "0": {Off: true}, "1Gi": {Capacity: 1 << 30}, "200Gi": {Capacity: 200 << 30},
	} {
		o := agentOptions{Storage: text}
		if got, err := o.storage(); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "much", "-1", "1023Mi"} {
		o := agentOptions{Storage: text}
		if got, err := o.storage(); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
	if got, err := (&agentOptions{Storage: "auto", sharing: 3}).storage(); err != nil || got.Sharing != 3 || got.Reserve != devReserve {
		t.Errorf("of dev: %+v, %v", got, err)
	}
}
