package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/test/objectapi"
)

// newStorage is a session whose cluster has an object store with a bucket.
func newStorage(t *testing.T) (*session, *objectapi.Server) {
	s, store := newSession(t), objectapi.New("photos")
	srv := httptest.NewServer(store)
	t.Cleanup(srv.Close)
	s.env["CLOUDLESS_ADDRESS"] = srv.URL
	return s, store
}

func (s *session) path(name string) string { return filepath.Join(s.dir, name) }

func (s *session) holds(name, want string) {
	s.t.Helper()
	if data, err := os.ReadFile(s.path(name)); err != nil || string(data) != want {
		s.t.Errorf("%s holds %d bytes, want %d: %v", name, len(data), len(want), err)
	}
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	return string(b)
}

func TestObjectsThereAndBack(t *testing.T) {
	s, store := newStorage(t)
	file := s.file("sea.txt", "hello, world")
	s.want(0, "object photos/2026/sea.txt stored, 12 B\n", "", "storage", "object", "put", "photos", "2026/sea.txt", file, "--meta", "Owner=ann")
	o := store.Objects["photos/2026/sea.txt"]
	if !strings.HasPrefix(o.ContentType, "text/plain") || o.Metadata["owner"] != "ann" {
		t.Errorf("%+v", o.Object)
	}
	s.want(0, "hello, world", "", "storage", "object", "get", "photos", "2026/sea.txt", "-")
	s.want(0, "object photos/2026/sea.txt is in "+s.path("back")+", 12 B\n", "", "storage", "object", "get", "photos", "2026/sea.txt", s.path("back"))
	s.holds("back", "hello, world")
	s.want(0, "object photos/2026/sea.txt is in "+s.path("sea.txt")+", 12 B\n", "", "storage", "object", "get", "photos", "2026/sea.txt", s.dir)
	s.want(0, "", "", "-q", "storage", "object", "get", "photos", "2026/sea.txt", os.DevNull)
	s.stdin = "from a pipe"
	s.want(0, "k.json\n", "", "-o", "name", "storage", "object", "put", "photos", "k.json", "-")
	if o := store.Objects["photos/k.json"]; string(o.Data) != "from a pipe" || o.ContentType != "application/json" {
		t.Errorf("%+v %q", o.Object, o.Data)
	}
	s.run("storage", "object", "stat", "photos", "2026/sea.txt", "-o", "json")
	var row api.Object
	if err := json.Unmarshal(s.out.Bytes(), &row); err != nil || row.Size != 12 || row.ETag != o.ETag {
		t.Errorf("%v: %s", err, s.out.String())
	}
	s.want(0, "object photos/copy copied, 11 B\n", "", "storage", "object", "copy", "photos", "k.json", "photos", "copy")
}

func TestObjectExitCodes(t *testing.T) {
	s, _ := newStorage(t)
	file := s.file("a", "x")
	put := []string{"storage", "object", "put", "photos", "a", file}
	s.want(0, "object photos/a stored, 1 B\n", "", put...)
	s.want(5, "", "object a is another", append(put, "--if-none-match")...)
	s.want(5, "", "object a is another", append(put, "--if-match", "other")...)
	s.want(2, "", "exclude each other", append(put, "--if-match", "x", "--if-none-match")...)
	s.want(2, "", `--meta "x" is not KEY=VALUE`, append(put, "--meta", "x")...)
	s.want(2, "", "is a folder (--recursive", "storage", "object", "put", "photos", "a", s.dir)
	s.want(2, "", "is a file (leave out --recursive)", append(put, "--recursive")...)
	s.want(3, "", "there is no file", "storage", "object", "put", "photos", "a", s.path("none"))
	s.want(3, "", "there is no object none", "storage", "object", "get", "photos", "none")
	s.want(3, "", "there is no object none", "storage", "object", "stat", "photos", "none")
	s.want(3, "", "there is no object none", "storage", "object", "delete", "photos", "none")
	s.want(3, "", "there is no bucket none", "storage", "object", "list", "none")
	s.want(3, "", "there is no folder", "storage", "object", "get", "photos", "a", s.path("no/such/file"))
	s.want(3, "", `there is nothing under "none/"`, "storage", "object", "get", "photos", "none", s.dir, "--recursive")
	s.want(2, "", "cannot go to standard output", "storage", "object", "get", "photos", "", "-", "--recursive")
	s.want(2, "", "the key of an object is missing", "storage", "object", "delete", "photos")
	s.want(5, "", "--recursive deletes the objects too", "storage", "bucket", "delete", "photos")
	s.want(0, "object photos/a deleted\n", "", "storage", "object", "delete", "photos", "a")
	s.want(0, "bucket photos deleted\n", "", "storage", "bucket", "delete", "photos")
}

// Keys that name no file are refused, and none leads out of the folder.
func TestKeysThatAreNoFiles(t *testing.T) {
	for key, want := range map[string]string{"p/a": "a", "p/a/b": "a/b", "p/": "", "p/a/": "", "p/..": "-", "p/../a": "-", "p//a": "-", "p/a/../../b": "-", "p/.": "-", "p/./a": "-", "p/a//b": "-"} {
		got, err := localName(key, "p/")
		if err != nil {
			got = "-"
		}
		if got != filepath.FromSlash(want) {
			t.Errorf("%q is %q, want %q", key, got, want)
		}
	}
	s, store := newStorage(t)
	store.Put(api.ObjectPut{Bucket: "photos", Key: "../evil"}, []byte("x"))
	for _, key := range []string{"..", "a/", "."} {
		store.Put(api.ObjectPut{Bucket: "photos", Key: key}, nil)
		s.want(2, "", "names no file", "storage", "object", "get", "photos", key)
	}
	inside := s.path("inside")
	s.want(2, "", "cannot be a file below a folder", "storage", "object", "get", "photos", "", inside, "--recursive")
	if _, err := os.Stat(s.path("evil")); err == nil {
		t.Error("a key led out of the folder")
	}
	outside, link := t.TempDir(), s.path("linked")
	if err := os.MkdirAll(link, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(link, "d")); err != nil {
		t.Fatal(err)
	}
	store.Put(api.ObjectPut{Bucket: "photos", Key: "l/d/file"}, []byte("x"))
	if code := s.run("storage", "object", "get", "photos", "l", link, "--recursive"); code == 0 {
		t.Error("a link led out of the folder")
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("outside is %v", left)
	}
}

func TestFoldersThereAndBack(t *testing.T) {
	s, store := newStorage(t)
	big := random(5 << 20)
	want := map[string]string{"a": "1", "sub/b": "2", "sub/deep/c.txt": "3", "big": big, "with space & %": "4"}
	for name, text := range want {
		if err := os.MkdirAll(filepath.Dir(s.path("dir/"+name)), 0o700); err != nil {
			t.Fatal(err)
		}
		s.file("dir/"+name, text)
	}
	if err := os.Symlink("a", s.path("dir/link")); err != nil {
		t.Fatal(err)
	}
	s.want(0, "5 objects stored, 5.0 MiB\n", "is not a regular file", "storage", "object", "put", "photos", "site", s.path("dir"), "--recursive")
	for name, text := range want {
		if string(store.Objects["photos/site/"+name].Data) != text {
			t.Errorf("site/%s is wrong", name)
		}
	}
	store.Put(api.ObjectPut{Bucket: "photos", Key: "site2"}, nil)
	s.want(0, "5 objects are in "+s.path("back")+", 5.0 MiB\n", "", "storage", "object", "get", "photos", "site", s.path("back"), "--recursive")
	for name, text := range want {
		s.holds("back/"+name, text)
	}
	s.want(0, "5 objects deleted\n", "", "storage", "object", "delete", "photos", "site", "--recursive")
	if len(store.Objects) != 1 {
		t.Errorf("left are %d objects, want the one beside the folder", len(store.Objects))
	}
	s.want(2, "", "needs --yes", "storage", "bucket", "delete", "photos", "--recursive")
	s.want(0, "bucket photos deleted\n", "", "storage", "bucket", "delete", "photos", "--recursive", "--yes")
}

// A get goes on with what an earlier one left, and does not believe it.
func TestAGetGoesOnWhereItWas(t *testing.T) {
	data := random(300_000)
	for name, c := range map[string]struct {
		part string
		from []string // ranges asked for
	}{
		"nothing yet":        {"", []string{""}},
		"half of it":         {data[:150_000], []string{"bytes=150000-"}},
		"all of it":          {data, nil},
		"half of another":    {strings.Repeat("x", 150_000), []string{"bytes=150000-", ""}},
		"all of another":     {strings.Repeat("x", 300_000), []string{""}},
		"more than there is": {data + "more", []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			s, store := newStorage(t)
			store.Put(api.ObjectPut{Bucket: "photos", Key: "k"}, []byte(data))
			var from []string
			store.Hook = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.URL.RawQuery == "" {
					from = append(from, r.Header.Get("Range"))
				}
				return false
			}
			s.file("k"+partSuffix, c.part)
			s.want(0, "object photos/k is in "+s.path("k")+", 293.0 KiB\n", "", "storage", "object", "get", "photos", "k", s.path("k"))
			s.holds("k", data)
			if fmt.Sprint(from) != fmt.Sprint(c.from) {
				t.Errorf("asked for %q, want %q", from, c.from)
			}
			if _, err := os.Stat(s.path("k" + partSuffix)); err == nil {
				t.Error("the part is still there")
			}
		})
	}
}

// What comes damaged is never a file, and the file that was there stays.
func TestADamagedGetIsNoFile(t *testing.T) {
	s, store := newStorage(t)
	store.Put(api.ObjectPut{Bucket: "photos", Key: "k"}, []byte("right"))
	o := store.Objects["photos/k"]
	o.Data = []byte("wrong")
	store.Objects["photos/k"] = o
	s.file("k", "old")
	s.want(1, "", "what came is not object k", "storage", "object", "get", "photos", "k", s.path("k"))
	s.holds("k", "old")
	if _, err := os.Stat(s.path("k" + partSuffix)); err == nil {
		t.Error("the damaged part was kept")
	}
	s.want(1, "wrong", "what came is not object k", "storage", "object", "get", "photos", "k", "-")
	o.SHA256 = "" // the ETag tells too
	store.Objects["photos/k"] = o
	s.want(1, "", "what came is not object k", "storage", "object", "get", "photos", "k", s.path("k"))
	o.ETag = "abc-2" // of an object of parts nothing tells
	store.Objects["photos/k"] = o
	s.file("k"+partSuffix, "wr")
	s.want(0, "object photos/k is in "+s.path("k")+", 5 B\n", "", "storage", "object", "get", "photos", "k", s.path("k"))
	s.holds("k", "wrong")
}

// What is not whole yet takes the name of nobody's file and of no other object.
func TestAGetTouchesNoOtherFile(t *testing.T) {
	s, store := newStorage(t)
	for _, key := range []string{"d/k", "d/k.part"} {
		store.Put(api.ObjectPut{Bucket: "photos", Key: key}, []byte(key))
	}
	s.file("k.part", "mine")
	s.want(0, "object photos/d/k is in "+s.path("k")+", 3 B\n", "", "storage", "object", "get", "photos", "d/k", s.path("k"))
	s.holds("k.part", "mine")
	s.want(0, "2 objects are in "+s.path("all")+", 11 B\n", "", "storage", "object", "get", "photos", "d", s.path("all"), "--recursive")
	s.holds("all/k", "d/k")
	s.holds("all/k.part", "d/k.part")
}

// A put that broke off and is repeated sends only what the cluster lacks.
func TestARepeatedPutSendsWhatIsMissing(t *testing.T) {
	s, store := newStorage(t)
	file := s.file("big", random(24<<20))
	store.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/commit") {
			objectapi.Refuse(w, api.Errorf(api.CodeInternal, "the power is gone"))
			return true
		}
		return false
	}
	s.want(1, "", "the power is gone", "storage", "object", "put", "photos", "big", file)
	sent := store.Sent
	store.Hook = nil
	s.want(0, "object photos/big stored, 24.0 MiB\n", "24.0 MiB of it were in the cluster already", "storage", "object", "put", "photos", "big", file)
	if sent != 24 || store.Sent != sent {
		t.Errorf("%d chunks sent, then %d", sent, store.Sent-sent)
	}
}

func TestObjectListOutputs(t *testing.T) {
	s, store := newStorage(t)
	for _, key := range []string{"a/1", "a/2", "b", "c/3", "z"} {
		store.Put(api.ObjectPut{Bucket: "photos", Key: key, ObjectHead: api.ObjectHead{ContentType: "text/x"}}, []byte("xy"))
	}
	for key, kind := range map[string]string{"z": "text/a", "b": "text/b", "c/3": "text/c"} {
		store.Put(api.ObjectPut{Bucket: "photos", Key: key, ObjectHead: api.ObjectHead{ContentType: kind}}, []byte("xy"))
	}
	list := func(more ...string) []string { return append([]string{"storage", "object", "list", "photos"}, more...) }
	s.want(0, "a/1\na/2\nb\nc/3\nz\n", "", list("-q")...)
	s.want(0, "a/\nb\nc/\nz\n", "", list("-q", "--delimiter", "/")...)
	s.want(0, "a/1\na/2\n", "", list("-o", "name", "--prefix", "a/")...)
	s.want(0, "c/3\nz\n", "", list("-o", "name", "--continue", "b")...)
	s.want(0, "a/1\n", "", list("-q", "--limit", "1")...)
	s.want(0, "KEY  SIZE  MODIFIED              TYPE\nb    2 B   2026-11-24T10:00:00Z  text/b\n", "", list("--prefix", "b")...)
	s.want(0, "z\nb\nc/3\na/1\na/2\n", "", list("-q", "--sort-by", "type")...)
}

func TestBuckets(t *testing.T) {
	s, store := newStorage(t)
	s.want(0, "bucket logs created\n", "", "storage", "bucket", "create", "logs", "--replicas", "2", "--class", "cold", "--quota", "10Gi", "--expiry", "720h")
	if b := store.Buckets["logs"]; b.Replicas != 2 || b.Class != api.ClassCold || b.Quota != 10<<30 || b.Expiry.D() != 720*time.Hour || b.Compression != api.CompressionZstd {
		t.Errorf("%+v", b)
	}
	s.want(5, "", "bucket logs exists", "storage", "bucket", "create", "logs")
	s.want(0, "bucket logs changed\n", "", "storage", "bucket", "set", "logs", "--quota", "0")
	if b := store.Buckets["logs"]; b.Quota != 0 || b.Replicas != 2 {
		t.Errorf("%+v", b)
	}
	s.want(2, "", "no setting to change", "storage", "bucket", "set", "logs")
	s.want(2, "", `--quota "much" is not a size`, "storage", "bucket", "create", "more", "--quota", "much")
	s.want(3, "", "there is no bucket none", "storage", "bucket", "set", "none", "--replicas", "2")
	s.want(0, "logs\nphotos\n", "", "storage", "bucket", "list", "-q")
	s.want(0, "NAME  OBJECTS  SIZE  REPLICAS  QUOTA  AGE\nlogs  0        0 B   2         -      -\n", "", "storage", "bucket", "get", "logs")
	s.run("storage", "bucket", "get", "logs", "-o", "json")
	var b api.BucketView
	if err := json.Unmarshal(s.out.Bytes(), &b); err != nil || b.Name != "logs" {
		t.Errorf("%v: %s", err, s.out.String())
	}
}

func TestWorkOfTheStore(t *testing.T) {
	s, store := newStorage(t)
	store.Report = api.StorageReport{Nodes: []api.StorageNode{{StoreMember: api.StoreMember{ID: "n-1", Name: "edge-1", State: api.StoreReady}, Stats: api.StoreStats{Capacity: 1 << 30, Used: 1 << 29, Chunks: 4, Scrubbed: 1}}},
		Upkeep: api.StorageUpkeep{Chunks: 4, Short: 1, Missing: 2, LookedAt: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)}}
	store.Report.Sum()
	s.run("storage", "status")
	for _, part := range []string{"degraded", "512.0 MiB of 1.0 GiB (50%)", "2 copies of 1 chunks", "warning: 2 copies of 1 chunks are missing", "edge-1  ready", "25% of a pass"} {
		if !strings.Contains(s.out.String(), part) {
			t.Errorf("%q is not in\n%s", part, s.out.String())
		}
	}
	s.want(0, "edge-1\n", "", "storage", "status", "-q")
	s.want(0, "repair asked for; see 'cloudless storage status'\n", "", "storage", "repair")
	s.want(0, "scrub asked for; see 'cloudless storage status'\n", "", "storage", "scrub", "--node", "edge-1")
	s.want(0, "collection asked for\n", "", "storage", "collect", "--anyway")
	s.want(6, "", "waiting for a look at all chunks", "storage", "repair", "--wait", "--timeout", "10ms")
	if got := strings.Join(store.Asked[:3], "; "); got != `repair ; scrub {"node":"edge-1"}; collect {"anyway":true}` {
		t.Error(got)
	}
	store.Backup = []byte("everything")
	s.want(0, "everything", "", "storage", "backup", "-")
	s.want(0, "backup is in "+s.path("b")+", 10 B\n", "", "storage", "backup", s.path("b"))
	s.holds("b", "everything")
	if info, err := os.Stat(s.path("b")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	s.want(2, "", "needs --yes", "storage", "restore", s.path("b"))
	s.want(3, "", "there is no file", "storage", "restore", s.path("none"), "--yes")
	s.stdin = "piped"
	if code := s.run("storage", "restore", "-", "--yes"); code != 0 || string(store.Backup) != "piped" {
		t.Errorf("%d: %s: %q", code, s.err.String(), store.Backup)
	}
}

// What --wait waits for.
func TestWhenWorkOfTheStoreIsDone(t *testing.T) {
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	node := func(name string, state api.StoreMemberState, ended time.Time) api.StorageNode {
		return api.StorageNode{StoreMember: api.StoreMember{ID: "id-" + name, Name: name, State: state}, Stats: api.StoreStats{ScrubbedAt: ended}}
	}
	before := api.StorageReport{Nodes: []api.StorageNode{node("a", api.StoreReady, at), node("b", api.StoreReady, time.Time{}), node("c", api.StoreLost, at)}}
	half := api.StorageReport{Nodes: []api.StorageNode{node("a", api.StoreReady, at.Add(1)), node("b", api.StoreReady, time.Time{}), node("c", api.StoreLost, at)}}
	for name, want := range map[string]bool{"": false, "a": true, "id-a": true, "b": false, "c": true} {
		if _, done := unscrubbed(before, half, name); done != want {
			t.Errorf("scrub of %q is done: %v", name, done)
		}
	}
	old := api.StorageUpkeep{LookedAt: at}
	for want, now := range map[bool][]api.StorageUpkeep{
		false: {old, {LookedAt: at.Add(1), Short: 1}, {LookedAt: at.Add(1), Copying: 1}, {LookedAt: at.Add(1), Waiting: 1}, {LookedAt: at.Add(1), Looking: true}},
		true:  {{LookedAt: at.Add(1), Failed: 3}},
	} {
		for _, u := range now {
			if _, done := unrepaired(old, u); done != want {
				t.Errorf("%+v is done: %v", u, done)
			}
		}
	}
}

func TestWhatIsNotCollectedIsTold(t *testing.T) {
	e := &Env{Now: func() time.Time { return time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC) }}
	for want, r := range map[string]api.StorageReport{
		"":                                {HeldUntil: e.Now()},
		"held until 2026-11-25T10:00:01Z": {HeldUntil: e.Now().Add(time.Second), Held: 1},
		"1.0 MiB of what was deleted are kept for a day, as it is much at once": {Held: 1 << 20},
	} {
		if got := heldLine(e, r); got != want {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
}

func TestBarLines(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		took        time.Duration
		want        string
	}{
		{0, 4 << 20, 0, "x [                        ]   0% 0 B of 4.0 MiB, 0 B/s"},
		{1 << 20, 4 << 20, time.Second, "x [======                  ]  25% 1.0 MiB of 4.0 MiB, 1.0 MiB/s, 3s left"},
		{4 << 20, 4 << 20, 2 * time.Second, "x [========================] 100% 4.0 MiB of 4.0 MiB, 2.0 MiB/s"},
		{5 << 20, 4 << 20, time.Second, "x [========================] 100% 5.0 MiB of 4.0 MiB, 5.0 MiB/s"},
		{1 << 20, -1, time.Second, "x: 1.0 MiB, 1.0 MiB/s"},
		{0, 0, 0, "x: 0 B, 0 B/s"},
	} {
		if got := barLine("x", c.done, c.total, c.took); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// The bar is for terminals; elsewhere nothing is said.
func TestTheBarIsForTerminals(t *testing.T) {
	s, store := newStorage(t)
	store.Put(api.ObjectPut{Bucket: "photos", Key: "k"}, []byte(random(100_000)))
	s.want(0, "", "", "-q", "storage", "object", "get", "photos", "k", s.path("k"))
	var shown bytes.Buffer
	b := (&Env{Err: &shown, Now: time.Now}).bar("x", 10)
	b.add(5)
	b.clear()
	if shown.Len() > 0 {
		t.Errorf("a pipe is told %q", shown.String())
	}
}
