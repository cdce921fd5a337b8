package api

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// A node may read what it is assigned, in the variant that it runs, and what it is to prepare; no
// image of a registry, and nothing that a spec names of which it has no replica.
func TestWhatANodeMayRead(t *testing.T) {
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	spec := func(module, image string) WorkloadSpec {
		return WorkloadSpec{Wasm: &WasmSpec{Module: module}, Container: &ContainerSpec{Image: image}}
	}
	set := &AssignmentSet{
		Assignments: []Assignment{
			{UID: "u", Version: 1, Variant: VariantWasm}, {UID: "u", Version: 2, Variant: VariantContainer},
			{UID: "v", Version: 1, Variant: VariantContainer}, {UID: "unknown", Version: 1, Variant: VariantWasm},
		},
		Specs: []AssignedSpec{
			{UID: "u", Version: 1, Spec: spec(digest("a"), digest("0"))}, {UID: "u", Version: 2, Spec: spec(digest("0"), digest("b"))},
			{UID: "v", Version: 1, Spec: spec(digest("0"), "registry.example/app:1")}, {UID: "w", Version: 1, Spec: spec(digest("0"), digest("0"))},
		},
		Prepare: []AssignedSpec{{UID: "u", Version: 3, Spec: spec(digest("c"), digest("d"))}},
	}
	want := []string{digest("a"), digest("b"), digest("c"), digest("d")}
	if got := slices.Sorted(maps.Keys(set.Artifacts())); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := new(AssignmentSet).Artifacts(); len(got) != 0 {
		t.Errorf("an empty set gives %v", got)
	}
}
