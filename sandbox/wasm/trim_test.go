package wasm

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatCompiledCodeGoes(t *testing.T) {
	at := func(hours int) time.Time { return time.Unix(0, 0).Add(time.Duration(hours) * time.Hour) }
	all := func() []cached {
		return []cached{{name: "new", used: at(3), bytes: 40}, {name: "old", used: at(1), bytes: 40}, {name: "kept", used: at(0), bytes: 40}, {name: "mid", used: at(2), bytes: 40}}
	}
	for limit, want := range map[int64][]string{160: nil, 159: {"old"}, 120: {"old"}, 119: {"old", "mid"}, 0: {"old", "mid", "new"}} {
		var names []string
		for _, c := range surplus(all(), limit, func(c cached) bool { return c.name == "kept" }) {
			names = append(names, c.name)
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
}
