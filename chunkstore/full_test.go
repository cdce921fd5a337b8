package chunkstore

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/cloudless/cloudless/api"
)

func TestTheCapacityIsKept(t *testing.T) {
	o := small
	o.Capacity = 3 * (100_000 + headBytes)
	c := openChunks(t, vfs.NewMem(), o)
	putChunks(t, c, "o", noise(1, 100_000))
	putChunks(t, c, "o", noise(2, 100_000))
	mustBe(t, c.Put(t.Context(), PutOptions{}, chunkOf(noise(3, 100_001))), api.CodeNoRoom, ErrFull)
	putChunks(t, c, "o", noise(3, 100_000))
	if s := c.Stats(); s.UsedBytes != o.Capacity {
		t.Errorf("%+v", s)
	}
	mustBe(t, c.Put(t.Context(), PutOptions{}, chunkOf([]byte("x"))), api.CodeNoRoom, ErrFull)
	putChunks(t, c, "p", noise(1, 100_000)) // what is here can be put and pinned
	drop(t, c, noise(3, 100_000))
	mustBe(t, c.Put(t.Context(), PutOptions{}, chunkOf([]byte("x"))), api.CodeNoRoom, ErrFull)
	drop(t, c, noise(2, 100_000)) // dead bytes count until they are compacted
	if _, err := c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	putChunks(t, c, "o", noise(4, 100_000))
}

func TestFullIsNoRoomForTheLargestChunk(t *testing.T) {
	for room, full := range map[int64]bool{-1: true, 0: false, 1: false} {
		o := small
		o.Capacity = 100 + headBytes + MaxChunkBytes + headBytes + room
		c := openChunks(t, vfs.NewMem(), o)
		putChunks(t, c, "", noise(1, 100))
		if s := c.Stats(); s.Full != full {
			t.Errorf("%d bytes more: %+v", room, s)
		}
	}
}

// As the disk fills up the store turns read-only before anything fails, keeps what it needs to free
// room, and accepts again by itself.
func TestADiskThatFillsUp(t *testing.T) {
	d := newFaulty(vfs.NewMem())
	d.setSize(8 << 20)
	c := openChunks(t, d, small)
	if _, err := d.Stat("chunks/" + reserveName); err != nil {
		t.Fatal(err)
	}
	var stored [][]byte
	var err error
	for i := uint64(0); err == nil; i++ {
		data := noise(i, 100_000)
		if err = c.Put(t.Context(), PutOptions{Owner: "o"}, chunkOf(data)); err == nil {
			stored = append(stored, data)
		}
	}
	mustBe(t, err, api.CodeNoRoom, ErrFull)
	if !c.Stats().Full || len(stored) < 30 {
		t.Fatalf("%d chunks: %+v", len(stored), c.Stats())
	}
	mustGet(t, c, stored[0])
	d.fill(0) // and others take the rest
	for _, data := range stored[:20] {
		drop(t, c, data)
	}
	if c.room.kept {
		t.Error("the deletes did without the reserve: they did not meet a full disk")
	}
	c = reopen(t, c)
	mustBe(t, c.Put(t.Context(), PutOptions{}, chunkOf([]byte("x"))), api.CodeNoRoom, ErrFull)
	r, err := c.Compact(t.Context())
	if err != nil || r.Segments == 0 {
		t.Fatalf("%+v: %v", r, err)
	}
	for _, data := range stored[20:] {
		mustGet(t, c, data)
	}
	for c.Stats().Full { // more is deleted until there is room for the reserve again
		if len(stored) < 21 {
			t.Fatalf("still full: %+v", c.Stats())
		}
		drop(t, c, stored[20])
		stored = append(stored[:20], stored[21:]...)
		if _, err := c.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Stat("chunks/" + reserveName); err != nil {
		t.Errorf("the reserve is not back: %v", err)
	}
	putChunks(t, c, "o", noise(1000, 100_000))
	if err := consistent(c); err != nil {
		t.Error(err)
	}
}

// Every write finds the disk full, one after the other: a put that fails leaves nothing behind, and
// when there is room again all goes on as if nothing had been.
func TestADiskFullAtAnyWrite(t *testing.T) {
	met := 0
	for n := range 40 {
		d := newFaulty(vfs.NewCrashableMem())
		c := openChunks(t, d, small)
		before := noise(1, 100_000)
		putChunks(t, c, "o", before)
		left := n
		d.failWrites(func(string, bool) error {
			if left--; left == 0 {
				d.size = d.used() // others have taken the rest
			}
			return nil
		})
		d.setSize(1 << 40)
		var failed []error
		rng := rand.New(rand.NewPCG(uint64(n), 1))
		acked := map[string][]byte{}
		for i := range uint64(8) {
			data := noise(100+i, 1+rng.IntN(300_000))
			if err := c.Put(t.Context(), PutOptions{Owner: "o"}, chunkOf(data)); err != nil {
				failed = append(failed, err)
			} else {
				acked[DigestOf(data)] = data
			}
		}
		d.failWrites(nil)
		d.setSize(1 << 40)
		if len(failed) > 0 {
			met++
		}
		for _, err := range failed {
			if api.CodeOf(err) != api.CodeNoRoom {
				t.Errorf("write %d: %v", n, err)
			}
		}
		putChunks(t, c, "o", noise(5000, 100_000)) // it accepts again by itself
		c = reopen(t, c)
		mustGet(t, c, before)
		for _, data := range acked {
			mustGet(t, c, data)
		}
		if err := consistent(c); err != nil {
			t.Errorf("write %d: %v", n, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if met < 25 {
		t.Errorf("only %d histories have met the full disk", met)
	}
}

// When even the reserve is spent, a change waits until somebody makes room, and reading goes on.
func TestTheIndexWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFaulty(vfs.NewMem())
		d.setSize(8 << 20)
		c := openChunks(t, d, small)
		data := noise(1, 100_000)
		putChunks(t, c, "o", data)
		d.setSize(1) // less than nothing: the reserve does not help
		done := make(chan error)
		go func() {
			_, err := c.Ref("p", DigestOf(data))
			done <- err
		}()
		time.Sleep(10 * roomPoll)
		select {
		case err := <-done:
			t.Fatalf("there was no room: %v", err)
		default:
		}
		mustGet(t, c, data)
		d.setSize(64 << 20)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if owners, err := c.Owners(DigestOf(data), 9); err != nil || len(owners) != 2 {
			t.Errorf("%v: %v", owners, err)
		}
		putChunks(t, c, "o", noise(2, 100_000))
	})
}

// Close does not wait for room for ever: what waits fails, as it was not acknowledged.
func TestCloseEndsTheWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFaulty(vfs.NewMem())
		d.setSize(8 << 20)
		c, err := Open(d, "chunks", small)
		if err != nil {
			t.Fatal(err)
		}
		data := noise(1, 100_000)
		putChunks(t, c, "o", data)
		d.setSize(1)
		done := make(chan error)
		go func() {
			_, err := c.Ref("p", DigestOf(data))
			done <- err
		}()
		time.Sleep(roomPoll)
		go func() { done <- c.Close() }()
		first, second := <-done, <-done
		if err := errors.Join(first, second); api.CodeOf(err) != api.CodeNoRoom {
			t.Errorf("%v", err)
		}
	})
}

// A store on a full disk opens with the help of its reserve. With no reserve it says why it cannot.
func TestOpeningOnAFullDisk(t *testing.T) {
	for _, reserve := range []bool{true, false} {
		d := newFaulty(vfs.NewMem())
		d.setSize(8 << 20)
		c := openChunks(t, d, small)
		data := noise(1, 100_000)
		putChunks(t, c, "o", data)
		if !reserve {
			c.room.spend()
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		d.fill(0)
		again, err := Open(d, "chunks", small)
		if !reserve {
			mustBe(t, err, api.CodeNoRoom, nil)
			d.setSize(8 << 20)
			again, err = Open(d, "chunks", small)
		}
		if err != nil {
			t.Fatal(err)
		}
		mustGet(t, again, data)
		drop(t, again, data)
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Where a disk cannot set room aside as much is left free, and it is not tried again with each put.
func TestADiskThatCannotSetRoomAside(t *testing.T) {
	d := newFaulty(vfs.NewMem())
	d.setSize(8 << 20)
	tried := 0
	c := openChunks(t, errorfs.Wrap(d, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFilePreallocate {
			tried++
			return syscall.EOPNOTSUPP
		}
		return nil
	})), small)
	for i := range uint64(10) {
		putChunks(t, c, "o", noise(i, 100))
	}
	if tried != 1 || c.room.kept {
		t.Errorf("tried %d times", tried)
	}
	d.fill(c.room.reserve + c.room.headroom)
	mustBe(t, c.Put(t.Context(), PutOptions{}, chunkOf([]byte("x"))), api.CodeNoRoom, ErrFull)
	d.fill(2 * (c.room.reserve + c.room.headroom))
	putChunks(t, c, "o", []byte("x"))
}

// A compaction that has no room for what lives in a segment leaves it, until another makes room.
func TestCompactionWithoutRoomLeavesTheSegment(t *testing.T) {
	d := newFaulty(vfs.NewMem())
	d.setSize(64 << 20)
	c := openChunks(t, d, small)
	s := fillSegments(t, c, 2)
	drop(t, c, s[0][:5]...)
	c.room.spend()
	d.fill(400_000) // less than what lives in the first
	if r, err := c.Compact(t.Context()); err != nil || r.Segments != 0 || r.Skipped != 1 {
		t.Errorf("no room: %+v, %v", r, err)
	}
	drop(t, c, s[1]...)
	if r, err := c.Compact(t.Context()); err != nil || r.Segments != 2 || r.Skipped != 0 {
		t.Errorf("the empty one makes room for the other: %+v, %v", r, err)
	}
	for _, data := range s[0][5:] {
		mustGet(t, c, data)
	}
}
