package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

// A description tells what happened to the workload and to its replicas, and not to those of others.
func TestADescriptionTellsOfTheReplicas(t *testing.T) {
	at := func(second int, resource string) api.Event {
		return api.Event{Resource: resource, Time: time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC)}
	}
	got := withReplicas(
		[]api.Event{at(1, "workload/default/hi"), at(4, "workload/default/hi")},
		[]api.Event{at(2, "replica/hi-1"), at(3, "replica/hi-two-1"), at(5, "replica/hi-2")},
		[]api.ReplicaStatus{{ID: "hi-1"}, {ID: "hi-2"}})
	var resources []string
	for _, e := range got {
		resources = append(resources, e.Resource)
	}
	if diff := cmp.Diff([]string{"workload/default/hi", "replica/hi-1", "workload/default/hi", "replica/hi-2"}, resources); diff != "" {
		t.Error(diff)
	}
}
