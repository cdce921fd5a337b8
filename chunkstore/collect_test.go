package chunkstore

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
)

var day = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func yes(_ context.Context, digests []string) ([]string, error) { return digests, nil }

// collectAll marks, lets the grace go by, and collects; want chunks are to go.
func collectAll(t testing.TB, c *Chunks, want int) {
	t.Helper()
	if _, err := c.Collect(t.Context(), Collection{Now: day, Confirm: yes}); err != nil {
		t.Fatal(err)
	}
	report, err := c.Collect(t.Context(), Collection{Now: day.Add(Grace), Confirm: yes})
	if err != nil || report.Deleted != want {
		t.Fatalf("collected %+v: %v; want %d chunks", report, err, want)
	}
}

func pass1(t *testing.T, c *Chunks, now time.Time, confirm func(context.Context, []string) ([]string, error)) CollectReport {
	t.Helper()
	report, err := c.Collect(t.Context(), Collection{Now: now, Confirm: confirm})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestCollectionWaitsForTheGrace(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	lonely, held := noise(1, 100_000), noise(2, 100)
	putChunks(t, c, "", lonely)
	putChunks(t, c, "o", held)
	if r := pass1(t, c, day, yes); r.Marked != 1 || r.Deleted != 0 {
		t.Errorf("first pass: %+v", r)
	}
	if r := pass1(t, c, day.Add(Grace-1), yes); r.Marked != 0 || r.Ripe != 0 {
		t.Errorf("just before the grace is over: %+v", r)
	}
	if r := pass1(t, c, day.Add(-time.Hour), yes); r.Ripe != 0 {
		t.Errorf("a clock that went back: %+v", r)
	}
	c = reopen(t, c) // marks are kept
	if r := pass1(t, c, day.Add(Grace), yes); r.Ripe != 1 || r.Deleted != 1 {
		t.Errorf("when the grace is over: %+v", r)
	}
	if _, err := c.Get(DigestOf(lonely), nil); !isMissing(err) {
		t.Errorf("the collected chunk: %v", err)
	}
	mustGet(t, c, held)
}

func TestAPinOrAPutTakesTheMarkAway(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	pinned, put, unpinned := noise(1, 100), noise(2, 100_000), noise(3, 100)
	putChunks(t, c, "", pinned, put, unpinned)
	pass1(t, c, day, yes)
	if _, err := c.Ref("o", DigestOf(pinned), DigestOf(unpinned)); err != nil {
		t.Fatal(err)
	}
	if err := c.Unref(t.Context(), "o", DigestOf(unpinned)); err != nil {
		t.Fatal(err)
	}
	putChunks(t, c, "", put)
	if r := pass1(t, c, day.Add(Grace), yes); r.Deleted != 0 || r.Marked != 2 {
		t.Errorf("%+v", r)
	}
	if r := pass1(t, c, day.Add(2*Grace), yes); r.Deleted != 2 {
		t.Errorf("%+v", r)
	}
	mustGet(t, c, pinned)
}

func TestOnlyWhatIsConfirmedGoes(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	d := putChunks(t, c, "", noise(1, 100), noise(2, 100_000), noise(3, 100))
	pass1(t, c, day, yes)
	var asked []string
	r := pass1(t, c, day.Add(Grace), func(_ context.Context, digests []string) ([]string, error) {
		asked = append(asked, digests...)
		return d[:1], nil
	})
	slices.Sort(asked)
	slices.Sort(d[1:])
	if r.Deleted != 1 || r.Ripe != 3 || r.Unreferenced != 1 || len(asked) != 6 {
		t.Errorf("asked %d times: %+v", len(asked), r)
	}
	_, err := c.Collect(t.Context(), Collection{Now: day.Add(Grace), Confirm: func(context.Context, []string) ([]string, error) { return nil, errors.New("no leader") }})
	mustBe(t, err, api.CodeUnavailable, nil)
	_, err = c.Collect(t.Context(), Collection{Now: day.Add(Grace)})
	mustBe(t, err, api.CodeInvalid, nil)
	if n := c.Stats().Chunks; n != 2 {
		t.Errorf("%d chunks are left", n)
	}
}

// A chunk that is pinned while the coordinators are asked stays.
func TestAPinDuringTheQuestionWins(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	d := putChunks(t, c, "", noise(1, 100), noise(2, 100_000))
	pass1(t, c, day, yes)
	r := pass1(t, c, day.Add(Grace), func(_ context.Context, digests []string) ([]string, error) {
		if _, err := c.Ref("late", d[0]); err != nil {
			t.Error(err)
		}
		putChunks(t, c, "", noise(2, 100_000))
		return digests, nil
	})
	if r.Deleted != 0 {
		t.Errorf("%+v", r)
	}
	mustGet(t, c, noise(1, 100))
	mustGet(t, c, noise(2, 100_000))
}

func TestAPassThatIsTooLargeIsHeld(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	putChunks(t, c, "", noise(1, 1000), noise(2, 100_000))
	bytes := c.Stats().StoredBytes
	pass1(t, c, day, yes)
	collect := func(limit int64, anyway bool) CollectReport {
		r, err := c.Collect(t.Context(), Collection{Now: day.Add(Grace), Confirm: yes, MaxBytes: limit, Anyway: anyway})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := collect(bytes-1, false); !r.Held || r.Deleted != 0 || r.Bytes != bytes {
		t.Errorf("one byte too many: %+v", r)
	}
	if r := collect(bytes, false); r.Held || r.Deleted != 2 {
		t.Errorf("as many as may be: %+v", r)
	}
	putChunks(t, c, "", noise(3, 1000))
	pass1(t, c, day, yes)
	if r := collect(1, true); r.Held || r.Deleted != 1 {
		t.Errorf("anyway: %+v", r)
	}
}

func TestCollectionOfManyPages(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	for page := range 3 {
		var data [][]byte
		for i := range MaxPage {
			data = append(data, []byte{byte(page), byte(i), byte(i >> 8), 1})
		}
		putChunks(t, c, "", data[:MaxPage/2]...)
		putChunks(t, c, "", data[MaxPage/2:]...)
	}
	collectAll(t, c, 3*MaxPage)
	if s := c.Stats(); s.Chunks != 0 || s.UsedBytes != 0 {
		t.Errorf("%+v", s)
	}
}

// fillSegments puts chunks of 100,000 bytes until n segments are full, and returns them by segment.
func fillSegments(t *testing.T, c *Chunks, n int) [][][]byte {
	t.Helper()
	segments := make([][][]byte, n+1)
	for i := uint64(0); c.writer.id <= uint64(n); i++ {
		data := noise(i, 100_000)
		putChunks(t, c, "o", data)
		segments[c.writer.id-1] = append(segments[c.writer.id-1], data)
	}
	return segments
}

func drop(t *testing.T, c *Chunks, data ...[]byte) {
	t.Helper()
	for _, b := range data {
		if err := c.Unref(t.Context(), "o", DigestOf(b)); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(DigestOf(b)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCompactionTakesWhatIsOver40PercentDead(t *testing.T) {
	d := newFaulty(vfs.NewCrashableMem())
	c := openChunks(t, d, small)
	s := fillSegments(t, c, 3)
	// Ten chunks of 100,056 bytes are in each: four dead are 40 percent, five are more.
	drop(t, c, s[0][:4]...)
	drop(t, c, s[1][:5]...)
	drop(t, c, s[2]...)
	r, err := c.Compact(t.Context())
	if err != nil || r.Segments != 2 || r.Skipped != 0 || r.Moved != 5*100_056 || r.Freed != 15*100_056 {
		t.Fatalf("%+v: %v", r, err)
	}
	check := func(c *Chunks) {
		t.Helper()
		for _, data := range append(s[0][4:], append(s[1][5:], s[3]...)...) {
			mustGet(t, c, data)
		}
		for _, data := range s[1][:5] {
			if _, err := c.Get(DigestOf(data), nil); !isMissing(err) {
				t.Errorf("a deleted chunk: %v", err)
			}
		}
	}
	check(c)
	for id, there := range map[uint64]bool{1: true, 2: false, 3: false, 4: true} {
		if _, err := d.Stat("chunks/segments/" + segmentName(id)); (err == nil) != there {
			t.Errorf("segment %d: %v", id, err)
		}
	}
	c = reopen(t, c)
	check(c)
	if r, err := c.Compact(t.Context()); err != nil || r.Segments != 0 {
		t.Errorf("a second time: %+v, %v", r, err)
	}
}

// A store of which everything was deleted gives all its room back, the last segment's too.
func TestAnEmptyStoreTakesNoRoom(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	s := fillSegments(t, c, 2)
	for i := range 5 {
		putChunks(t, c, "o", noise(uint64(1000+i), 100_000))
		s[2] = append(s[2], noise(uint64(1000+i), 100_000))
	}
	for _, data := range s {
		drop(t, c, data...)
	}
	if r, err := c.Compact(t.Context()); err != nil || r.Segments != 3 {
		t.Fatalf("%+v: %v", r, err)
	}
	if stats := c.Stats(); stats.UsedBytes != 0 || stats.DeadBytes != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestCompactionStopsWithItsContext(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	s := fillSegments(t, c, 1)
	drop(t, c, s[0][:6]...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Compact(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for _, data := range s[0][6:] {
		mustGet(t, c, data)
	}
}

// A chunk that is deleted while a compaction has it in its hands does not come back.
func TestADeleteDuringACompactionWins(t *testing.T) {
	o := small
	var during func()
	o.Pace = func(context.Context, int64) error {
		if during != nil {
			during()
		}
		return nil
	}
	c := openChunks(t, vfs.NewMem(), o)
	s := fillSegments(t, c, 1)
	drop(t, c, s[0][:6]...)
	moving := 0
	during = func() {
		if moving++; moving == 2 { // the first is read and waits
			drop(t, c, s[0][6])
		}
	}
	if r, err := c.Compact(t.Context()); err != nil || r.Segments != 1 {
		t.Fatalf("%+v: %v", r, err)
	}
	if _, err := c.Get(DigestOf(s[0][6]), nil); !isMissing(err) {
		t.Errorf("the deleted chunk: %v", err)
	}
	for _, data := range s[0][7:] {
		mustGet(t, c, data)
	}
	if err := consistent(c); err != nil {
		t.Error(err)
	}
}

// What is referred to has no pin for most of its life. It is not among what a pass would remove.
func TestWhatIsReferredToWeighsNothing(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	d := putChunks(t, c, "", noise(1, 100_000), noise(2, 100_000), noise(3, 1000))
	lonely := func(context.Context, []string) ([]string, error) { return d[2:], nil }
	pass1(t, c, day, lonely)
	r, err := c.Collect(t.Context(), Collection{Now: day.Add(Grace), Confirm: lonely, MaxBytes: 2000})
	if err != nil || r.Held || r.Ripe != 3 || r.Deleted != 1 || r.Bytes > 2000 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWhatIsHeldGoesADayLater(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	putChunks(t, c, "", noise(1, 100_000))
	at := func(after time.Duration, held bool) CollectReport {
		r, err := c.Collect(t.Context(), Collection{Now: day.Add(after), Confirm: yes, MaxBytes: 1, Held: held})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	at(0, false)
	if r := at(Grace, false); !r.Held {
		t.Errorf("at first: %+v", r)
	}
	c = reopen(t, c) // since when it is held is kept
	if r := at(Grace+HoldOfMany-1, false); !r.Held || r.Deleted != 0 {
		t.Errorf("just before the day is over: %+v", r)
	}
	if r := at(Grace+HoldOfMany, true); !r.Held || r.Deleted != 0 {
		t.Errorf("while the caller holds: %+v", r)
	}
	if r := at(Grace+HoldOfMany, false); r.Held || r.Deleted != 1 {
		t.Errorf("when the day is over: %+v", r)
	}
}

// A hold is for what was found. When that is referred to again, the next find is held as long.
func TestAHoldEndsWithItsReason(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	d := putChunks(t, c, "", noise(1, 100_000))
	at := func(after time.Duration) CollectReport {
		r, err := c.Collect(t.Context(), Collection{Now: day.Add(after), Confirm: yes, MaxBytes: 1})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	at(0)
	at(Grace)
	if _, err := c.Ref("o", d...); err != nil {
		t.Fatal(err)
	}
	at(time.Hour)
	if err := c.Unref(t.Context(), "o", d...); err != nil {
		t.Fatal(err)
	}
	at(23 * time.Hour)
	if r := at(25 * time.Hour); !r.Held {
		t.Errorf("a hold that began two hours ago: %+v", r)
	}
}

func TestPinOwnersAreListedOnce(t *testing.T) {
	c := openChunks(t, vfs.NewMem(), small)
	for i, owner := range []string{"b", "session/1", "a", "a", "session/10"} {
		putChunks(t, c, owner, noise(uint64(i), 100), noise(99, 100))
	}
	for limit, want := range map[int][]string{2: {"a", "b"}, 9: {"a", "b", "session/1", "session/10"}} {
		if got, err := c.PinOwners("", limit); err != nil || !slices.Equal(got, want) {
			t.Errorf("up to %d: %v, %v", limit, got, err)
		}
	}
	if got, err := c.PinOwners("b", 9); err != nil || len(got) != 2 || got[0] != "session/1" {
		t.Errorf("behind b: %v, %v", got, err)
	}
}
