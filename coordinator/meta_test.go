package coordinator

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/objects"
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
	t.Parallel()
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

// usage is what a coordinator says that the bucket holds.
func usage(t *testing.T, s *Server) api.BucketUsage {
	t.Helper()
	a, err := s.readMeta(t.Context(), meta.Query{Bucket: "assets"})
	if err != nil {
		t.Fatal(err)
	}
	return *a.Usage
}

// A coordinator that starts again has all objects, each once, from the rows on its disk, a snapshot and
// the log, whichever of them is ahead.
func TestObjectsOutliveRestarts(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	must(t, c.servers[0], bucket("assets"))
	for i := range 10 {
		must(t, c.servers[0], small(fmt.Sprint("a", i), "before the snapshot"))
	}
	if err := c.servers[0].raft.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, c.servers[0], small("b", "after the snapshot"))
	for _, lost := range []bool{false, true} { // the rows on the disk: then there are the snapshot and the log
		c.stop(0)
		if lost {
			if err := os.RemoveAll(filepath.Join(c.dirs[0], dirObjects)); err != nil {
				t.Fatal(err)
			}
		}
		c.start(0)
		c.eventually("a leader", func() bool { return c.servers[0].Ready(t.Context()) == nil })
		if u := usage(t, c.servers[0]); u.Objects != 11 {
			t.Errorf("%+v", u)
		}
		if got := content(t, c.servers[0], "b"); got != "after the snapshot" {
			t.Errorf("b is %q", got)
		}
	}
}

// A coordinator that comes when the log has been cut gets the objects with a snapshot.
func TestANewCoordinatorGetsObjectsWithASnapshot(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	first := c.servers[0]
	must(t, first, bucket("assets"))
	for i := range 2100 { // more entries than are kept beyond a snapshot
		must(t, first, small(fmt.Sprint(i), "content"))
	}
	if err := first.raft.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, first, small("last", "content"))
	c.dirs, c.servers = append(c.dirs, filepath.Join(t.TempDir(), "1")), append(c.servers, nil)
	c.start(1)
	c.eventually("it to catch up", func() bool { return c.servers[1].applied.get() >= first.applied.get() })
	if got, want := usage(t, c.servers[1]), usage(t, first); got != want || got.Objects != 2101 {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A coordinator that cannot read an entry, or not write what follows from it, stops and says why; it takes
// no later entry in, and makes no snapshot, which would be of a state that nobody else has.
func TestACoordinatorThatCannotFollowTheLogStops(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(s *Server) error{
		"an entry of another version": func(s *Server) error {
			_, _, err := s.raft.Propose(t.Context(), []byte{objects.EntryFormat, 99})
			return err
		},
		"rows that cannot be read": func(s *Server) error {
			junk := append([]byte("\x07bassets"), "\x04junk"...)
			for _, c := range []meta.Command{
				{Restore: &meta.Restore{ID: "r1", Rows: junk, Last: true}},
				{UpdateBucket: &meta.UpdateBucket{Bucket: api.Bucket{Name: "assets"}}},
			} {
				if _, err := s.applyMeta(t.Context(), c); (err != nil) != (c.Restore == nil) {
					return fmt.Errorf("%+v was answered with %w", c, err)
				}
			}
			return nil
		},
	} {
		c := newCluster(t, 1)
		s := c.servers[0]
		if err := breakIt(s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		<-s.Done()
		applied := s.applied.get()
		if err := s.raft.Snapshot(t.Context()); err == nil {
			t.Errorf("%s: a snapshot was made", name)
		}
		if _, _, err := s.raft.Propose(t.Context(), []byte("{}")); err == nil && s.applied.get() != applied {
			t.Errorf("%s: applied up to %d after %d", name, s.applied.get(), applied)
		}
		ended := s.Close()
		_, text, _ := strings.Cut(fmt.Sprint(ended), "entry ")
		var at uint64 // Raft's own entries may stand between the last command and this one
		if _, err := fmt.Sscan(text, &at); err != nil || at <= applied {
			t.Errorf("%s: ended after entry %d with %v", name, applied, ended)
		}
		c.servers[0] = nil
	}
}
