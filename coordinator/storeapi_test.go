package coordinator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
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
	const changes, reads = "changes", "reads" // on lines
	s := openServer(t)
	id, cert := enrolled(t, s, "a")
	ask := func(path string, body any) (int, string) {
		if kind, ok := map[string]byte{changes: api.LineMetaApply, reads: api.LineMetaRead}[path]; ok {
			if err := askLine(s, id, kind, body, nil); err != nil {
				return api.CodeOf(err).HTTPStatus(), err.Error()
			}
			return http.StatusOK, ""
		}
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
	if code, body := ask(changes, one(bucket("assets"))); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	for name, c := range map[string]struct {
		path   string
		body   any
		status int
	}{
		"what has expired":             {changes, one(meta.Command{ExpireObjects: &meta.ExpireObjects{Bucket: "assets"}}), 403},
		"which sessions have expired":  {changes, one(meta.Command{ExpireSessions: &meta.ExpireSessions{}}), 403},
		"what is kept as a group":      {changes, one(meta.Command{SealGroup: &meta.SealGroup{Session: "s1"}}), 403},
		"a restore":                    {changes, one(meta.Command{Restore: &meta.Restore{ID: "r1", Last: true}}), 403},
		"to put what workloads run":    {changes, one(meta.Command{Put: &meta.Put{Bucket: api.ArtifactBucket, Key: "k", Inline: []byte("x")}}), 403},
		"to delete it":                 {changes, one(meta.Command{Delete: &meta.Delete{Bucket: api.ArtifactBucket, Key: "k"}}), 403},
		"to copy over it":              {changes, one(meta.Command{Copy: &meta.Copy{FromBucket: "assets", FromKey: "k", Bucket: api.ArtifactBucket, Key: "k"}}), 403},
		"nothing":                      {changes, meta.Commands{}, 400},
		"as much as an entry may have": {changes, many(objects.MaxEntryCommands), 200},
		"more than an entry may have":  {changes, many(objects.MaxEntryCommands + 1), 400},
		"what this version has not":    {changes, map[string]any{"fly": true}, 400},
		"two things at once":           {api.PathMetaRead, meta.Queries{Queries: []meta.Query{{Bucket: "assets", Buckets: true}}}, 400},
		"an object that is not there":  {api.PathMetaRead, meta.Queries{Queries: []meta.Query{{Object: &meta.ObjectRef{Bucket: "assets", Key: "none"}}}}, 404},
		"as many sessions as it may":   {api.PathMetaRead, meta.Queries{Queries: []meta.Query{{Sessions: make([]string, meta.MaxAsked)}}}, 200},
		"too many sessions":            {api.PathMetaRead, meta.Queries{Queries: []meta.Query{{Sessions: make([]string, meta.MaxAsked+1)}}}, 413},
		"a digest of other bytes":      {api.PathMetaRead, meta.Queries{Queries: []meta.Query{{Unreferenced: [][]byte{{1}}}}}, 400},
		"as many things as it may":     {reads, meta.Queries{Queries: slices.Repeat([]meta.Query{{Bucket: "assets"}}, meta.MaxQueries)}, 200},
		"more things":                  {reads, meta.Queries{Queries: slices.Repeat([]meta.Query{{Bucket: "assets"}}, meta.MaxQueries+1)}, 400},
		"no thing":                     {reads, meta.Queries{}, 400},
		"one that is not there":        {reads, meta.Queries{Queries: []meta.Query{{Bucket: "none"}}}, 404},
		"one of them not there":        {reads, meta.Queries{Queries: []meta.Query{{Bucket: "assets"}, {Bucket: "none"}}}, 200},
		"what is no query":             {reads, map[string]any{"fly": true}, 400},
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

// The changes of a node are of many callers: who may not make one is told so, the others get theirs.
func TestARefusedChangeIsOneCallersOwn(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	if _, err := s.applyOne(t.Context(), meta.Command{CreateBucket: &api.Bucket{Name: "assets"}}); err != nil {
		t.Fatal(err)
	}
	put := func(bucket, key string) meta.Command {
		return meta.Command{Put: &meta.Put{Bucket: bucket, Key: key, Inline: []byte("x")}}
	}
	own := api.ArtifactBucket
	body, err := meta.Commands{Commands: []meta.Command{put(own, "a"), put("assets", "b"), put(own, "c"), put("none", "d"), put("assets", "e")}}.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.metaApplied(t.Context(), body)
	if err != nil {
		t.Fatal(err)
	}
	var res meta.Results
	if err := json.Unmarshal(text, &res); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range res.Results {
		if r.Err != nil {
			got = append(got, string(r.Err.Code))
		} else {
			got = append(got, r.Object.Key)
		}
	}
	if want := []string{"forbidden", "b", "forbidden", "not_found", "e"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
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

// Each of several queries is answered for itself.
func TestQueriesAreAnsweredTogether(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	id, _ := enrolled(t, s, "a")
	if _, err := s.applyMeta(t.Context(), bucket("assets"), small("a", "bytes of a"), small("b", "bytes of b")); err != nil {
		t.Fatal(err)
	}
	object := func(key string) meta.Query { return meta.Query{Object: &meta.ObjectRef{Bucket: "assets", Key: key}} }
	var got meta.Answers
	if err := askLine(s, id, api.LineMetaRead, meta.Queries{Queries: []meta.Query{object("a"), object("none"), {Bucket: "assets"}, object("b")}}, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Answers) != 4 {
		t.Fatalf("%d answers", len(got.Answers))
	}
	a, none, assets, b := got.Answers[0], got.Answers[1], got.Answers[2], got.Answers[3]
	if string(a.Object.Inline) != "bytes of a" || string(b.Object.Inline) != "bytes of b" || assets.Bucket.Name != "assets" || api.ReasonOf(none.Err) != api.ReasonNoObject {
		t.Errorf("%+v %+v %+v %+v", a, none, assets, b)
	}
}

// What would be too long is left for another request, but one answer there always is.
func TestAnswersAreBounded(t *testing.T) {
	for bytes, want := range map[int]int{0: 9, meta.MaxAnswersBytes/3 - 1: 4, meta.MaxAnswersBytes / 2: 2, meta.MaxAnswersBytes - 1: 2, meta.MaxAnswersBytes: 1, 2 * meta.MaxAnswersBytes: 1} {
		manifest := make([]byte, bytes)
		got := answerAll(make([]meta.Query, 9), func(meta.Query) (*meta.Answer, error) {
			return &meta.Answer{Object: &api.Object{Manifest: manifest}}, nil
		})
		if len(got) != want {
			t.Errorf("with %d bytes each there are %d answers, want %d", bytes, len(got), want)
		}
	}
}
