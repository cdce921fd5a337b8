package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
)

// machine is a node's volumes, over processes of its agent.
type machine struct {
	*Manager
	t   *testing.T
	dir string

	mu   sync.Mutex
	told []string
}

func newMachine(t *testing.T, store sandbox.Storage) *machine {
	t.Helper()
	n := &machine{t: t, dir: t.TempDir()}
	n.start(store)
	t.Cleanup(func() {
		if err := n.Close(true); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *machine) start(store sandbox.Storage, keep ...string) {
	n.t.Helper()
	m, err := Open(Config{Dir: filepath.Join(n.dir, "volumes"), Store: store, Log: zerolog.Nop(), Tell: func(kind string, _ api.Severity, resource, message string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.told = append(n.told, kind+" "+resource+": "+message)
	}})
	kept := map[string]bool{}
	for _, id := range keep {
		kept[id] = true
	}
	if err == nil {
		err = m.Resume(kept)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.Manager = m
}

func (n *machine) restart(store sandbox.Storage, keep ...string) {
	n.t.Helper()
	if err := n.Close(false); err != nil {
		n.t.Fatal(err)
	}
	n.start(store, keep...)
}

func (n *machine) mount(replica string, variant api.Variant, v api.Volume) (string, error) {
	v.Path = "/v"
	mounts, err := n.Mount(n.t.Context(), Request{Replica: replica, Variant: variant, Volumes: []api.Volume{v}})
	if err != nil {
		return "", err
	}
	if mounts[0].Target != "/v" || mounts[0].ReadOnly != v.ReadOnly {
		n.t.Errorf("%+v", mounts)
	}
	return mounts[0].Source, nil
}

func (n *machine) mustMount(replica string, v api.Volume) string {
	n.t.Helper()
	dir, err := n.mount(replica, api.VariantWasm, v)
	if err != nil {
		n.t.Fatal(err)
	}
	return dir
}

// pass runs a pass of a replica's first volume now, or of the bucket that it shares.
func (n *machine) pass(replica, bucket string) {
	n.t.Helper()
	f := n.Manager.own[replica].folders[0]
	if f == nil {
		f = n.Manager.shared[bucket].folder
	}
	if err := f.follower.pass(n.t.Context(), true); err != nil {
		n.t.Error(err)
	}
}

func put(t *testing.T, s *fake.Storage, bucket, key, text string) {
	t.Helper()
	if _, err := s.Put(t.Context(), bucket, key, meta.Condition{}, -1, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// object is an object's bytes; "" if there is none.
func object(t *testing.T, s *fake.Storage, bucket, key string) string {
	t.Helper()
	_, r, err := s.Open(t.Context(), bucket, key, 0, -1)
	if err != nil {
		return ""
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	for name, text := range want {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if text == "" && !errors.Is(err, os.ErrNotExist) || text != "" && string(got) != text {
			t.Errorf("%s: %q, %v, want %q", name, got, err, text)
		}
	}
}

// unavailable is a store that cannot be asked.
func unavailable(context.Context, string, string, string) error {
	return api.Errorf(api.CodeUnavailable, "no quorum")
}

// A bucket that is mounted to be read is one folder of the node, which follows the bucket: what is put, what
// is put in its place, what is deleted.
func TestReplicasShareWhatTheyRead(t *testing.T) {
	store := fake.NewStorage("assets")
	put(t, store, "assets", "a.txt", "one")
	put(t, store, "assets", "d/e/b.txt", "two")
	put(t, store, "assets", "../x", "outside")
	n := newMachine(t, store)
	v := api.Volume{Bucket: "assets", ReadOnly: true}
	dir := n.mustMount("r-1", v)
	if other := n.mustMount("r-2", v); other != dir {
		t.Errorf("%s and %s", dir, other)
	}
	expect(t, dir, map[string]string{"a.txt": "one", "d/e/b.txt": "two"})
	if len(n.told) != 1 || !strings.Contains(n.told[0], `volume.skipped bucket/assets: bucket assets: "../x" is not shown`) {
		t.Errorf("%q", n.told)
	}
	if held := n.Held()["assets"]; held != 6 {
		t.Errorf("%d bytes are held", held)
	}
	info, err := os.Stat(filepath.Join(dir, "d/e/b.txt"))
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v: a container's user could not read it", info.Mode(), err)
	}
	put(t, store, "assets", "a.txt", "more")
	put(t, store, "assets", "c", "new")
	if err := store.Delete(t.Context(), "assets", "d/e/b.txt", ""); err != nil {
		t.Fatal(err)
	}
	n.pass("r-1", "assets")
	expect(t, dir, map[string]string{"a.txt": "more", "c": "new", "d/e/b.txt": ""})
	if _, err := os.Stat(filepath.Join(dir, "d")); err == nil {
		t.Error("an empty folder is left")
	}
}

// What has been on a node is shown without the cluster, after a restart too; what has not is not.
func TestWhatIsHereNeedsNoQuorum(t *testing.T) {
	store := fake.NewStorage("assets", "others")
	put(t, store, "assets", "a", "one")
	n := newMachine(t, store)
	v := api.Volume{Bucket: "assets", ReadOnly: true}
	n.mustMount("r-1", v)
	store.Before = unavailable
	n.restart(store, "r-1")
	expect(t, n.mustMount("r-1", v), map[string]string{"a": "one"})
	if _, err := n.mount("r-1", api.VariantWasm, api.Volume{Bucket: "others", ReadOnly: true}); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("a bucket that was never here: %v", err)
	}
	store.Before = nil
	put(t, store, "assets", "a", "two")
	n.restart(store, "r-1")
	expect(t, n.mustMount("r-2", v), map[string]string{"a": "two"})
}

// A pass that finds nothing to do writes nothing: cards wear out. That there was one is known, of an empty
// bucket too.
func TestAPassWithoutNewsWritesNothing(t *testing.T) {
	store := fake.NewStorage("assets", "empty")
	put(t, store, "assets", "a", "one")
	n := newMachine(t, store)
	for i, bucket := range []string{"assets", "empty"} {
		n.mustMount(fmt.Sprint("r-", i), api.Volume{Bucket: bucket, ReadOnly: true})
		base := n.Manager.shared[bucket].follower.path
		before, err := os.Stat(base)
		if err != nil {
			t.Fatal(bucket, err)
		}
		n.pass(fmt.Sprint("r-", i), bucket)
		if after, err := os.Stat(base); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: it was written again, %v", bucket, err)
		}
	}
}

// A bucket that is larger than its volume is refused, and the size named; one that grows beyond it stays as
// it was.
func TestABucketLargerThanItsVolume(t *testing.T) {
	store := fake.NewStorage("assets")
	put(t, store, "assets", "a", strings.Repeat("x", api.MinVolumeBytes))
	n := newMachine(t, store)
	v := api.Volume{Bucket: "assets", ReadOnly: true, Size: api.MinVolumeBytes}
	dir := n.mustMount("r-1", v)
	put(t, store, "assets", "b", "x")
	err := n.Manager.shared["assets"].folder.follower.pass(t.Context(), false)
	if api.CodeOf(err) != api.CodeNoRoom || !strings.Contains(err.Error(), "needs 1048577") {
		t.Error(err)
	}
	expect(t, dir, map[string]string{"b": ""})
	for _, v := range []api.Volume{v, {Bucket: "assets", Size: api.MinVolumeBytes}} {
		if _, err := newMachine(t, store).mount("r-2", api.VariantWasm, v); api.CodeOf(err) != api.CodeNoRoom {
			t.Errorf("read-only %v: %v", v.ReadOnly, err)
		}
	}
	n.mustMount("r-3", api.Volume{Bucket: "assets", ReadOnly: true, Size: 2 * api.MinVolumeBytes}) // makes room for all of them
	n.pass("r-3", "assets")
	expect(t, dir, map[string]string{"b": "x"})
}

// Replicas on two nodes that write to one bucket see what the others wrote; of two changes to one file both
// are kept.
func TestReplicasWriteToOneBucket(t *testing.T) {
	store := fake.NewStorage("work")
	put(t, store, "work", "a", "zero")
	v := api.Volume{Bucket: "work"}
	one, two := newMachine(t, store), newMachine(t, store)
	here, there := one.mustMount("r-1", v), two.mustMount("r-2", v)
	write(t, here, "a", "one")
	write(t, here, "new", "1")
	one.pass("r-1", "")
	two.pass("r-2", "")
	expect(t, there, map[string]string{"a": "one", "new": "1"})
	write(t, here, "a", "mine")
	write(t, there, "a", "theirs")
	if err := os.Remove(filepath.Join(there, "new")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		one.pass("r-1", "")
		two.pass("r-2", "")
	}
	one.pass("r-1", "")
	const aside = "a.conflict-r-2-"
	for name, dir := range map[string]string{"one": here, "two": there} {
		expect(t, dir, map[string]string{"a": "mine", "new": ""})
		kept, err := filepath.Glob(filepath.Join(dir, aside+"*"))
		if err != nil || len(kept) != 1 {
			t.Errorf("%s: %v, %v", name, kept, err)
			continue
		}
		expect(t, dir, map[string]string{filepath.Base(kept[0]): "theirs"})
	}
	if len(two.told) != 1 || !strings.HasPrefix(two.told[0], "volume.conflict replica/r-2") {
		t.Errorf("%q", two.told)
	}
}

// What a replica wrote last is in the bucket when its volumes are released, and the folder is gone.
func TestReleaseSendsWhatWasWritten(t *testing.T) {
	store := fake.NewStorage("work")
	n := newMachine(t, store)
	dir := n.mustMount("r-1", api.Volume{Bucket: "work"})
	write(t, dir, "last", "words")
	n.Release(t.Context(), "r-1")
	if got := object(t, store, "work", "last"); got != "words" {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(n.ownPath("r-1")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the folder is left:", err)
	}
	n.Release(t.Context(), "r-1") // again, or of none, is nothing
	write(t, n.mustMount("r-2", api.Volume{Bucket: "work"}), "before", "the restart")
	n.restart(store, "r-2")
	n.Release(t.Context(), "r-2") // of a replica that is stopped before it was taken up
	if got := object(t, store, "work", "before"); got != "the restart" {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(n.ownPath("r-2")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the folder is left:", err)
	}
}

// What cannot be sent is kept on the node, and sent later, by the next process if need be.
func TestWhatCannotBeSentIsKept(t *testing.T) {
	store := fake.NewStorage("work")
	n := newMachine(t, store)
	write(t, n.mustMount("r-1", api.Volume{Bucket: "work"}), "last", "words")
	write(t, n.mustMount("r-2", api.Volume{Name: "data", Size: api.MinVolumeBytes}), "gone", "with the replica")
	store.Before = unavailable
	n.Release(t.Context(), "r-1")
	if len(n.told) != 1 || !strings.HasPrefix(n.told[0], "volume.behind replica/r-1") {
		t.Errorf("%q", n.told)
	}
	if err := n.Close(false); err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	store.Before = func(_ context.Context, op, _, key string) error {
		if op == "put" && key == "last" {
			close(sent)
		}
		return nil
	}
	n.start(store) // neither replica is known any more
	<-sent
	for _, replica := range []string{"r-1", "r-2"} {
		n.Release(t.Context(), replica) // waits for what goes on in the background
		if _, err := os.Stat(n.ownPath(replica)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", replica, err)
		}
	}
	if got := object(t, store, "work", "last"); got != "words" {
		t.Errorf("%q", got)
	}
}

// Links, pipes and devices that a guest makes lead to nothing outside of its volume, and stop nothing.
func TestWhatAGuestMayMakeOfItsVolume(t *testing.T) {
	store := fake.NewStorage("work")
	n := newMachine(t, store)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := n.mustMount("r-1", api.Volume{Bucket: "work"})
	for _, err := range []error{
		os.Symlink(secret, filepath.Join(dir, "link")), os.Symlink(filepath.Dir(secret), filepath.Join(dir, "folder")),
		os.Symlink("../../base.json", filepath.Join(dir, "up")), syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	put(t, store, "work", "folder/secret", "overwritten") // a key that leads through the link
	write(t, dir, "good", "1")
	err := n.Manager.own["r-1"].folders[0].follower.pass(t.Context(), true)
	if err == nil || !strings.Contains(err.Error(), "folder/secret") {
		t.Errorf("the key that cannot be a file: %v", err)
	}
	if got, err := os.ReadFile(secret); err != nil || string(got) != "secret" {
		t.Errorf("outside of the volume: %q, %v", got, err)
	}
	page, err := store.List(t.Context(), meta.List{Bucket: "work"})
	if err != nil || len(page.Objects) != 2 || object(t, store, "work", "good") != "1" {
		t.Errorf("%v, %v", page, err)
	}
}

// A file that changed a moment ago may be half written: only later it is read.
func TestWhatIsBeingWrittenWaits(t *testing.T) {
	tree, err := openTree(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.close()
	stamp, err := tree.put("a", strings.NewReader("x"), func() (bool, error) { return true, nil })
	if err != nil {
		t.Fatal(err)
	}
	changed := time.Unix(0, stamp.Changed)
	for after, busy := range map[time.Duration]bool{0: true, settled - 1: true, settled: false, settled + 1: false, -1: false} {
		files, err := tree.scan(t.Context(), nil, changed.Add(after))
		if err != nil || files["a"].Busy != busy {
			t.Errorf("after %s: %+v, %v", after, files, err)
		}
	}
}

// What a guest has changed since a pass looked is neither overwritten nor removed by it.
func TestAPassLeavesAloneWhatItHasNotSeen(t *testing.T) {
	store := fake.NewStorage("work")
	for _, key := range []string{"changed", "removed"} {
		put(t, store, "work", key, "old")
	}
	n := newMachine(t, store)
	dir := n.mustMount("r-1", api.Volume{Bucket: "work"})
	put(t, store, "work", "changed", "theirs")
	put(t, store, "work", "new", "theirs")
	if err := store.Delete(t.Context(), "work", "removed", ""); err != nil {
		t.Fatal(err)
	}
	store.Before = func(_ context.Context, op, _, key string) error {
		if op == "open" { // the pass has looked, and is about to fetch
			write(t, dir, key, "mine")
		}
		return nil
	}
	n.pass("r-1", "")
	expect(t, dir, map[string]string{"changed": "mine", "new": "mine", "removed": ""})
}

// The loop of a folder may be at it when a replica comes that has it brought in.
func TestPassesOfOneFolderMayMeet(t *testing.T) {
	const many = 300
	store := fake.NewStorage("assets")
	n := newMachine(t, store)
	n.mustMount("r-1", api.Volume{Bucket: "assets", ReadOnly: true})
	f := n.Manager.shared["assets"].folder
	var both sync.WaitGroup
	for half := range 2 {
		both.Go(func() {
			for i := range many {
				if i%10 == 0 {
					put(t, store, "assets", fmt.Sprintf("%d-%03d", half, i), "x")
				}
				if err := f.populate(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	if held := n.Held()["assets"]; held != 2*many/10 {
		t.Errorf("%d bytes are held", held)
	}
}

// Who comes for a bucket's folder while it is removed, since nobody had used it for long, has it whole.
func TestAFolderMayBeWantedWhileItIsRemoved(t *testing.T) {
	store := fake.NewStorage("assets")
	for i := range 20 {
		put(t, store, "assets", fmt.Sprint(i), "x")
	}
	n := newMachine(t, store)
	v := api.Volume{Bucket: "assets", ReadOnly: true}
	ctx, cancel := context.WithCancel(t.Context())
	var removal sync.WaitGroup
	removal.Go(func() {
		for ctx.Err() == nil {
			for bucket, s := range n.unused(time.Now().Add(keepUnused)) {
				if err := n.drop(bucket, s); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for i := range 100 {
		replica := fmt.Sprint("r-", i)
		dir := n.mustMount(replica, v)
		expect(t, dir, map[string]string{"0": "x", "19": "x"})
		if held := n.Held()["assets"]; held != 20 {
			t.Errorf("%d bytes are held", held)
		}
		n.Release(t.Context(), replica)
	}
	cancel()
	removal.Wait()
}

// A container's volume has its size, and no more: the kernel says so. It is the same one after the agent has
// started again, and gone with its replica.
func TestAContainersVolumeHasItsSize(t *testing.T) {
	n := newMachine(t, fake.NewStorage())
	const size = 4 << 20
	v := api.Volume{Name: "data", Size: size}
	dir, err := n.mount("r-1", api.VariantContainer, v)
	if api.CodeOf(err) == api.CodeUnavailable {
		t.Skip("this machine cannot mount: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("%v, %v: a container's user could not write", info.Mode(), err)
	}
	write(t, dir, "fits", strings.Repeat("x", size))
	err = os.WriteFile(filepath.Join(dir, "more"), make([]byte, size/8+imageOverhead), 0o600)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("more than the size: %v", err)
	}
	n.restart(fake.NewStorage(), "r-1")
	again, err := n.mount("r-1", api.VariantContainer, v)
	if err != nil || again != dir {
		t.Fatal(again, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "fits")); err != nil || info.Size() != size {
		t.Errorf("after a restart: %v", err)
	}
	root := filepath.Dir(dir)
	if err := errors.Join(n.Close(false), unmount(root)); err != nil { // as a power cycle does
		t.Fatal(err)
	}
	n.start(fake.NewStorage(), "r-1")
	if _, err := n.mount("r-1", api.VariantContainer, v); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "fits")); err != nil {
		t.Errorf("after the mount had gone: %v", err)
	}
	n.Release(t.Context(), "r-1")
	if mounted, err := isMount(root); mounted || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v, %v", mounted, err)
	}
	if device, err := loopOf(filepath.Join(n.ownPath("r-1"), "0", imageFile)); device != "" || err != nil {
		t.Errorf("loop device %s, %v", device, err)
	}
}

// Passes take a tenth of the time at most; the wait for a cluster that cannot be asked is no work.
func TestThePauseAfterAPass(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: passInterval, passInterval / passShare: passInterval, passInterval/passShare + 1: passInterval + passShare,
		longestPause / passShare: longestPause, time.Hour: longestPause,
	} {
		if got := pauseAfter(took, nil); got != want {
			t.Errorf("after %s: %s, want %s", took, got, want)
		}
	}
	if got := pauseAfter(time.Minute, api.Errorf(api.CodeUnavailable, "no quorum")); got != passInterval {
		t.Errorf("without a quorum: %s", got)
	}
}

// A bucket of many objects comes in pages, several at a time.
func TestABucketOfManyObjects(t *testing.T) {
	store := fake.NewStorage("assets")
	const many = api.DefaultListLimit + 10
	for i := range many {
		put(t, store, "assets", fmt.Sprintf("k/%04d", i), "x")
	}
	dir := newMachine(t, store).mustMount("r-1", api.Volume{Bucket: "assets", ReadOnly: true})
	entries, err := os.ReadDir(filepath.Join(dir, "k"))
	if err != nil || len(entries) != many {
		t.Errorf("%d files, %v", len(entries), err)
	}
}
