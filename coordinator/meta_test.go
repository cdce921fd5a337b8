package coordinator

import (
	"fmt"
	"sync"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// must applies one command through a coordinator and gives its result.
func must(t *testing.T, s *Server, c meta.Command) meta.Result {
	t.Helper()
	res, err := s.applyMeta(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	one, err := res.First()
	if err != nil {
		t.Fatal(err)
	}
	return one
}

func bucket(name string) meta.Command {
	return meta.Command{CreateBucket: &api.Bucket{Name: name}}
}

func small(key, content string) meta.Command {
	return meta.Command{Put: &meta.Put{Bucket: "assets", Key: key, Inline: []byte(content)}}
}

// content reads an object through a coordinator, "" when there is none.
func content(t *testing.T, s *Server, key string) string {
	t.Helper()
	a, err := s.readMeta(t.Context(), meta.Query{Object: &meta.ObjectRef{Bucket: "assets", Key: key}})
	if api.CodeOf(err) == api.CodeNotFound {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(a.Object.Inline)
}

// A put that was answered, by whichever coordinator, is read at once by every other.
func TestAPutIsReadAtOnceByEveryCoordinator(t *testing.T) {
	c := newCluster(t, 3)
	must(t, c.servers[0], bucket("assets"))
	for round := range 20 {
		from := c.servers[round%3]
		want := fmt.Sprint("round ", round)
		must(t, from, small("key", want))
		for i, s := range c.servers {
			if got := content(t, s, "key"); got != want {
				t.Fatalf("coordinator %d reads %q after %q was put", i, got, want)
			}
		}
	}
}

// Callers that write at the same time share entries of the log, and each gets its own results.
func TestWritersShareAnEntryAndKeepTheirResults(t *testing.T) {
	c := newCluster(t, 1)
	s := c.servers[0]
	must(t, s, bucket("assets"))
	before := s.raft.LastIndex()
	const writers, each = 16, 50
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				key := fmt.Sprintf("%d/%d", w, i)
				res, err := s.applyMeta(t.Context(), small(key, key))
				if err != nil || len(res.Results) != 1 || res.Results[0].Object.Key != key {
					t.Errorf("%s: %v %v", key, res, err)
				}
			}
		})
	}
	group.Wait()
	if n := s.raft.LastIndex() - before; n >= writers*each {
		t.Errorf("%d entries for %d puts", n, writers*each)
	}
}

// A coordinator that starts again has all objects once, from the rows on its disk, a snapshot and the
// log; one that comes later gets them with a snapshot.
func TestObjectsOutliveRestartsAndReachNewCoordinators(t *testing.T) {
	c := newCluster(t, 1)
	must(t, c.servers[0], bucket("assets"))
	for i := range 10 {
		must(t, c.servers[0], small(fmt.Sprint("a", i), "before the snapshot"))
	}
	if err := c.servers[0].raft.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, c.servers[0], small("b", "after the snapshot"))
	c.stop(0)
	c.start(0)
	c.eventually("a leader", func() bool { return c.servers[0].Ready(t.Context()) == nil })
	a, err := c.servers[0].readMeta(t.Context(), meta.Query{Bucket: "assets"})
	if err != nil || a.Usage.Objects != 11 {
		t.Fatalf("%+v, %v", a, err)
	}
	if got := content(t, c.servers[0], "b"); got != "after the snapshot" {
		t.Errorf("b is %q", got)
	}
}
