package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/cloudless/cloudless/api"
)

// forget removes a member's node from the cluster, for good.
func (k *cluster) forget(m *member) {
	k.t.Helper()
	k.cli.must("node", "remove", m.name)
	k.agents = slices.DeleteFunc(k.agents, func(other *member) bool { return other == m })
}

// joins adds an agent to the cluster.
func (k *cluster) joins(name string) *member {
	k.t.Helper()
	m := k.agent(k.net.host(), name)
	m.start("--join", k.coords[0].addr+":7701", "--token", "@"+k.token(api.RoleNode))
	k.takesChunks(len(k.agents))
	return m
}

// What is stored outlives the nodes that keep it: one whose disk rots, those that are killed for good, one
// that is drained. What is missing is shown for as long as it is.
func TestObjectsOutliveTheirNodes(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 1, 4, nil)
	s := k.newShelf()
	s.fill(k.agents[0])
	s.copied(copies, k.agents...)
	s.mends(k.agents[1])

	// One is killed: the others make good what it had, by themselves.
	dead, began := k.agents[3], time.Now()
	dead.kill()
	k.told(api.EventStoreShort, "", began)
	k.told(api.EventStoreRepaired, "", began)
	s.copied(copies, k.agents[:3]...)
	k.shows(false)
	s.intact(k.agents[:3]...)
	k.forget(dead)
	s.copied(copies, k.agents...)

	// Of three one more is killed: nobody can make that good, until another joins.
	dead = k.agents[2]
	dead.kill()
	k.shows(true)
	s.must(s.put(k.agents[0], "meanwhile", 1<<20))
	s.intact(k.agents[:2]...)
	k.forget(dead)
	s.copied(2, k.agents...) // all that two nodes can have
	k.shows(false)
	k.joins("a4")
	s.copied(copies, k.agents...)

	// One is drained, and goes.
	k.joins("a5")
	s.copied(copies, k.agents...)
	old := k.agents[0]
	k.cli.must("node", "drain", old.name, "--wait", "--timeout", "60s")
	if out := k.cli.must("node", "describe", old.name); !strings.Contains(out, "safe to remove") {
		t.Errorf("it is drained, and described as\n%s", out)
	}
	old.stop(syscall.SIGTERM)
	s.intact(k.agents[1:]...)
	k.forget(old)
	s.copied(copies, k.agents...)
	k.shows(false)
	s.intact(k.agents...)
}

var copiesMade = regexp.MustCompile(`(?m)^cloudless_repair_operations_total\{.*operation="copy",result="ok".*\} [1-9]`)

// mends has a bit flip in what a member keeps: scrubbing tells of it, and a good copy takes its place.
func (s *shelf) mends(m *member) {
	k, t := s.k, s.k.t
	t.Helper()
	began := time.Now()
	key := s.rot(m)
	k.cli.must("storage", "scrub", "--node", m.name, "--wait", "--timeout", "60s")
	k.told(api.EventChunkDamaged, "node/"+m.name, began)
	eventually(t, "what has rotted is there again", func() bool { return bytes.Contains(m.segments(t), content(key, s.sizes[key])) })
	s.copied(copies, k.agents...)
	if _, text := k.coords[0].fetchInside("http://127.0.0.1:9090", "", "/metrics"); !copiesMade.MatchString(text) {
		t.Errorf("no copy is counted in\n%s", text)
	}
	s.intact(k.agents...)
	healed := time.Now()
	k.cli.must("storage", "scrub", "--wait", "--timeout", "60s")
	if list, err := k.api.Events(context.Background(), api.EventQuery{Type: api.EventChunkDamaged, Since: healed}); err != nil || len(list.Items) > 0 {
		t.Errorf("it is damaged still: %+v, %v", list.Items, err)
	}
}

// rot flips a bit of an object of one chunk on a member's disk, and gives its key. Nodes have three copies
// of four: the first object of a few that is here.
func (s *shelf) rot(m *member) (key string) {
	t := s.k.t
	for _, key := range []string{"rot-1", "rot-2", "rot-3", "rot-4", "rot-5", "rot-6"} {
		const size = 100 << 10
		s.must(s.put(m, key, size))
		s.copied(copies, s.k.agents...)
		for path, data := range m.segmentFiles(t) {
			at := bytes.Index(data, content(key, size))
			if at < 0 {
				continue
			}
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			s.must(err)
			_, err = f.WriteAt([]byte{data[at+size/2] ^ 1}, int64(at+size/2))
			s.must(err)
			s.must(f.Close())
			return key
		}
	}
	t.Fatal("no object is on " + m.name)
	return ""
}

// segmentFiles are the files of a member's chunks.
func (m *member) segmentFiles(t *testing.T) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(m.dir, "chunks", "segments", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, path := range paths {
		if files[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// segments are all of them.
func (m *member) segments(t *testing.T) []byte {
	var all []byte
	for _, data := range m.segmentFiles(t) {
		all = append(all, data...)
	}
	return all
}

// storeDisk is room for the reserve of a store and some chunks.
const storeDisk = 400 << 20

// A disk that is full takes no chunk and says so; when all are, clients are told that there is no room,
// by either door. Reads and deletes go on, and when there is room so do puts, with no restart.
func TestAFullDiskRefusesPutsAndNothingElse(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 1, 0, nil)
	for _, name := range []string{"a0", "a1", "a2"} {
		k.agent(k.net.host(), name).onDisk(t, storeDisk)
	}
	k.startAll(k.agents, "--join", k.coords[0].addr+":7701", "--token", "@"+k.token(api.RoleNode))
	k.whole()
	s := k.newShelf()
	s.fill(k.agents[0])
	s.copied(copies, k.agents...)

	full, began := k.agents[2], time.Now()
	full.fill()
	k.told(api.EventStoreFull, "node/"+full.name, began)
	for _, m := range k.agents {
		key := "by " + m.name
		eventually(t, "the two others take an object by "+m.name, func() bool { return s.put(m, key, 1<<20) == nil })
	}
	k.agents[0].fill()
	k.agents[1].fill()
	k.takesChunks(0)
	for _, m := range k.agents {
		eventually(t, "S3 tells that there is no room by "+m.name, func() bool {
			return s3Code(s.put(m, "refused", 1<<20)) == "InsufficientStorage 507"
		})
	}
	file := filepath.Join(k.dir, "refused")
	s.must(os.WriteFile(file, content("refused", 1<<20), 0o600))
	if _, errs, code := k.cli.run("storage", "object", "put", shelfBucket, "refused", file); code != 1 || !strings.Contains(errs, "is full") {
		t.Errorf("the command line exits %d: %s", code, errs)
	}
	s.intact(k.agents...)
	_, err := s.door(full).DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(shelfBucket), Key: aws.String("chunks")})
	s.must(err)
	k.cli.must("storage", "object", "delete", shelfBucket, "chunk")
	delete(s.sizes, "chunks")
	delete(s.sizes, "chunk")
	for _, key := range []string{"chunks", "chunk", "refused"} {
		if _, err := s.get(full, key); s3Code(err) != "NoSuchKey 404" {
			t.Errorf("%s: %v", key, err)
		}
	}

	for _, m := range k.agents {
		m.empty()
	}
	eventually(t, "what was full takes objects again", func() bool { return s.putParts(full, "again", partBytes+1) == nil })
	s.copied(copies, k.agents...)
	s.intact(k.agents...)
}
