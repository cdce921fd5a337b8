package coordinator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/coordinator/state"
)

// A node asks for changes and reads them; what only a leader or an admin decides it cannot ask for.
func TestWhatANodeMayAskOfTheMetadata(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	_, cert := enrolled(t, s, "a")
	ask := func(path string, body any) (int, string) {
		rec := askNode(s, cert, "POST "+path, "", body)
		return rec.Code, rec.Body.String()
	}
	many := func(n int) meta.Commands {
		c := meta.Commands{}
		for i := range n {
			c.Commands = append(c.Commands, small(fmt.Sprint(i), "x"))
		}
		return c
	}
	one := func(c meta.Command) meta.Commands { return meta.Commands{Commands: []meta.Command{c}} }
	if code, body := ask(api.PathMetaApply, one(bucket("assets"))); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	for name, c := range map[string]struct {
		path   string
		body   any
		status int
	}{
		"what has expired":             {api.PathMetaApply, one(meta.Command{ExpireObjects: &meta.ExpireObjects{Bucket: "assets"}}), 403},
		"which sessions have expired":  {api.PathMetaApply, one(meta.Command{ExpireSessions: &meta.ExpireSessions{}}), 403},
		"what is kept as a group":      {api.PathMetaApply, one(meta.Command{SealGroup: &meta.SealGroup{Session: "s1"}}), 403},
		"a restore":                    {api.PathMetaApply, one(meta.Command{Restore: &meta.Restore{ID: "r1", Last: true}}), 403},
		"to put what workloads run":    {api.PathMetaApply, one(meta.Command{Put: &meta.Put{Bucket: api.ArtifactBucket, Key: "k", Inline: []byte("x")}}), 403},
		"to delete it":                 {api.PathMetaApply, one(meta.Command{Delete: &meta.Delete{Bucket: api.ArtifactBucket, Key: "k"}}), 403},
		"to copy over it":              {api.PathMetaApply, one(meta.Command{Copy: &meta.Copy{FromBucket: "assets", FromKey: "k", Bucket: api.ArtifactBucket, Key: "k"}}), 403},
		"nothing":                      {api.PathMetaApply, meta.Commands{}, 400},
		"as much as an entry may have": {api.PathMetaApply, many(objects.MaxEntryCommands), 200},
		"more than an entry may have":  {api.PathMetaApply, many(objects.MaxEntryCommands + 1), 400},
		"what this version has not":    {api.PathMetaApply, map[string]any{"fly": true}, 400},
		"two things at once":           {api.PathMetaRead, meta.Query{Bucket: "assets", Buckets: true}, 400},
		"an object that is not there":  {api.PathMetaRead, meta.Query{Object: &meta.ObjectRef{Bucket: "assets", Key: "none"}}, 404},
		"as many sessions as it may":   {api.PathMetaRead, meta.Query{Sessions: make([]string, meta.MaxAsked)}, 200},
		"too many sessions":            {api.PathMetaRead, meta.Query{Sessions: make([]string, meta.MaxAsked+1)}, 413},
		"a digest of other bytes":      {api.PathMetaRead, meta.Query{Unreferenced: [][]byte{{1}}}, 400},
		"what is no digest":            {api.PathStoreShort, api.StoreShort{Chunks: []string{"x"}}, 400},
	} {
		if code, body := ask(c.path, c.body); code != c.status {
			t.Errorf("%s: %d %s, want %d", name, code, body, c.status)
		}
	}
	digest := "sha256:" + strings.Repeat("0", 64)
	for n, status := range map[int]int{api.MaxStoreShort: 200, api.MaxStoreShort + 1: 413} {
		chunks := make([]string, n)
		for i := range chunks {
			chunks[i] = digest
		}
		if code, body := ask(api.PathStoreShort, api.StoreShort{Chunks: chunks}); code != status {
			t.Errorf("%d chunks that are short: %d %s", n, code, body)
		}
	}
}

// A node that has the table of members is told so, and gets another one when it changes.
func TestANodeIsToldOfOtherMembersOnly(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	id, cert := enrolled(t, s, "a")
	get := func(revision uint64) (table api.StoreMembers, code int) {
		rec := askNode(s, cert, "GET "+api.PathStoreMembers, fmt.Sprintf("%s?revision=%d", api.PathStoreMembers, revision), nil)
		if rec.Code == http.StatusOK {
			if err := json.Unmarshal(rec.Body.Bytes(), &table); err != nil {
				t.Fatal(err)
			}
		}
		return table, rec.Code
	}
	empty, code := get(0)
	if code != http.StatusOK || len(empty.Members) != 0 {
		t.Fatalf("%d %+v", code, empty)
	}
	if _, code := get(empty.Revision); code != http.StatusNoContent {
		t.Errorf("told again: %d", code)
	}
	for _, capacity := range []int64{1 << 30, 0} { // without a store for once it is still a member
		do(t, s, state.Command{RegisterNode: &state.RegisterNode{ID: id, Info: api.RegisterRequest{Zone: "z", StoreCapacity: capacity}}})
		table, code := get(empty.Revision)
		if code != http.StatusOK || len(table.Members) != 1 || table.Members[0].ID != id || table.Members[0].Weight != 1024 {
			t.Errorf("%d %+v", code, table)
		}
	}
}
