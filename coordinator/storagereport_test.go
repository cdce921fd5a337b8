package coordinator

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
)

func keeper(name string, state api.StoreMemberState, stats api.StoreStats) api.StorageNode {
	return api.StorageNode{StoreMember: api.StoreMember{ID: name, Name: name, State: state}, Stats: stats}
}

// The health of the store names everything that is wrong with a node, and says when a write would be refused.
func TestStorageHealth(t *testing.T) {
	ready := keeper("a", api.StoreReady, api.StoreStats{})
	for name, c := range map[string]struct {
		nodes  []api.StorageNode
		health string
		reason string // the beginning of each
	}{
		"all ready":           {[]api.StorageNode{ready, ready, ready}, api.StorageOK, ""},
		"one node":            {[]api.StorageNode{ready}, api.StorageOK, ""},
		"none":                {nil, api.StorageUnavailable, "0 of 0 nodes take chunks, and a write needs 1"},
		"one lost":            {[]api.StorageNode{ready, ready, keeper("b", api.StoreLost, api.StoreStats{})}, api.StorageDegraded, "node b is lost"},
		"one drains":          {[]api.StorageNode{ready, ready, keeper("b", api.StoreDraining, api.StoreStats{})}, api.StorageOK, ""},
		"one full":            {[]api.StorageNode{ready, ready, keeper("b", api.StoreFull, api.StoreStats{Full: true})}, api.StorageDegraded, "node b is full"},
		"one away":            {[]api.StorageNode{ready, ready, keeper("b", api.StoreFull, api.StoreStats{})}, api.StorageDegraded, "node b is away"},
		"one with a bad disk": {[]api.StorageNode{ready, ready, keeper("b", api.StoreFull, api.StoreStats{Failed: "no disk"})}, api.StorageDegraded, "node b takes no chunks: no disk"},
		"damaged chunks":      {[]api.StorageNode{keeper("b", api.StoreReady, api.StoreStats{Quarantined: 2})}, api.StorageDegraded, "node b has moved 2 damaged chunks aside"},
		"two of three lost": {
			[]api.StorageNode{ready, keeper("b", api.StoreLost, api.StoreStats{}), keeper("c", api.StoreLost, api.StoreStats{})}, api.StorageUnavailable,
			"1 of 3 nodes take chunks, and a write needs 2|node b is lost|node c is lost",
		},
	} {
		health, reasons := storageHealth(c.nodes)
		if health != c.health || strings.Join(reasons, "|") != c.reason {
			t.Errorf("%s: %s, %q", name, health, reasons)
		}
	}
}

func TestBucketsAreListedInPages(t *testing.T) {
	c := newCluster(t, 1)
	s := c.servers[0]
	for _, name := range []string{"two", "one", "three"} {
		if _, err := s.PutBucket(t.Context(), admin, api.Bucket{Name: name}, true, 0); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	cursor := ""
	for range 2 {
		page, err := s.Buckets(t.Context(), api.ListQuery{Limit: 2, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page.Items {
			names = append(names, b.Name)
		}
		cursor = page.Cursor
	}
	if fmt.Sprint(names) != "[one three two]" || cursor != "" {
		t.Errorf("%v, then %q", names, cursor)
	}
	if _, err := s.PutBucket(t.Context(), admin, api.Bucket{Name: "one"}, true, 0); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a bucket was made twice: %v", err)
	}
	for _, name := range []string{"one", "four"} { // settings apply to what is there, and make what is not
		b, err := s.PutBucket(t.Context(), admin, api.Bucket{Name: name, Replicas: 2}, false, 0)
		if err != nil || b.Replicas != 2 {
			t.Errorf("%s: %+v, %v", name, b, err)
		}
	}
	if _, err := s.PutBucket(t.Context(), admin, api.Bucket{Name: "five"}, false, 7); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("a bucket that is not there was changed at an index: %v", err)
	}
	if err := s.DeleteBucket(t.Context(), admin, "four", 0); err != nil {
		t.Error(err)
	}
	if _, err := s.Bucket(t.Context(), "four"); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("the bucket is still there: %v", err)
	}
}
