package buckets

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
)

var granted = []api.BucketGrant{{Bucket: "sessions", Access: api.AccessReadWrite}, {Bucket: "assets", Access: api.AccessReadOnly}}

func open(t *testing.T, store sandbox.Storage) *Access {
	t.Helper()
	a := New(store, granted)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func numberOf(err error) sandbox.Errno {
	var r *sandbox.Refusal
	if errors.As(err, &r) {
		return r.Errno
	}
	return 0
}

func expect(t *testing.T, what string, err error, want sandbox.Errno) {
	t.Helper()
	if numberOf(err) != want || (err == nil) != (want == 0) {
		t.Errorf("%s: %d (%v), want %d", what, numberOf(err), err, want)
	}
}

// A change that depends on what is there is made when that is there, and only then.
func TestCompareAndSet(t *testing.T) {
	c := open(t, fake.NewStorage("sessions", "assets")).Begin(t.Context())
	_, _, err := c.Get("sessions", "a", nil)
	expect(t, "of nothing", err, ErrnoAbsent)
	_, err = c.Set("sessions", "a", []byte("1"), IfMatch, "0123")
	expect(t, "nothing is not 0123", err, ErrnoAbsent)
	first, err := c.Set("sessions", "a", []byte("1"), IfAbsent, "")
	expect(t, "the first", err, 0)
	_, err = c.Set("sessions", "a", []byte("x"), IfAbsent, "")
	expect(t, "a second", err, ErrnoExists)
	second, err := c.Set("sessions", "a", []byte("22"), IfMatch, first)
	expect(t, "the next", err, 0)
	_, err = c.Set("sessions", "a", []byte("x"), IfMatch, first)
	expect(t, "what has changed", err, ErrnoStale)
	expect(t, "delete what has changed", c.Delete("sessions", "a", IfMatch, first), ErrnoStale)
	p := make([]byte, 1)
	n, etag, err := c.Get("sessions", "a", p)
	if err != nil || n != 2 || etag != second || string(p) != "2" {
		t.Errorf("%d bytes, %q, ETag %s (want %s), %v", n, p, etag, second, err)
	}
	expect(t, "delete", c.Delete("sessions", "a", IfMatch, second), 0)
	expect(t, "delete nothing", c.Delete("sessions", "a", Always, ""), 0)
	expect(t, "delete nothing that was something", c.Delete("sessions", "a", IfMatch, second), ErrnoAbsent)
	for what, err := range map[string]error{
		"an unknown mode":     last(c.Set("sessions", "a", nil, 3, "")),
		"no ETag":             last(c.Set("sessions", "a", nil, IfMatch, "")),
		"any ETag":            last(c.Set("sessions", "a", nil, IfMatch, "*")),
		"delete of absence":   c.Delete("sessions", "a", IfAbsent, ""),
		"no key":              last(c.Set("sessions", "", nil, Always, "")),
		"a key of no text":    last(c.Set("sessions", "\xff", nil, Always, "")),
		"too long a key":      last(c.Set("sessions", strings.Repeat("k", api.MaxObjectKeyBytes+1), nil, Always, "")),
		"a negative offset":   last3(c.Open("sessions", "a", -1, 1)),
		"too long a cursor":   last(c.List("sessions", "", strings.Repeat("k", api.MaxObjectKeyBytes+1), nil)),
		"a created blob mode": last(c.Create("sessions", "a", 9, "")),
	} {
		expect(t, what, err, ErrnoInvalid)
	}
}

func last[T any](_ T, err error) error          { return err }
func last3[T, U any](_ T, _ U, err error) error { return err }

// Increments by compare-and-set from many calls at once are all counted.
func TestNoIncrementIsLost(t *testing.T) {
	a := open(t, fake.NewStorage("sessions"))
	const callers, each = 8, 20
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for range each {
				increment(t, a.Begin(t.Context()))
			}
		})
	}
	group.Wait()
	p := make([]byte, 8)
	n, _, err := a.Begin(t.Context()).Get("sessions", "count", p)
	if err != nil || string(p[:n]) != strconv.Itoa(callers*each) {
		t.Errorf("%q, %v", p[:n], err)
	}
}

func increment(t *testing.T, c *Call) {
	for {
		p, mode := make([]byte, 8), IfMatch
		n, etag, err := c.Get("sessions", "count", p)
		if numberOf(err) == ErrnoAbsent {
			n, mode, err = 0, IfAbsent, nil
		}
		if err != nil {
			t.Error(err)
			return
		}
		now, _ := strconv.Atoi(string(p[:n])) // nothing is 0
		_, err = c.Set("sessions", "count", []byte(strconv.Itoa(now+1)), mode, etag)
		switch numberOf(err) {
		case ErrnoExists, ErrnoStale:
			continue
		case 0:
			return
		}
		t.Error(err)
		return
	}
}

// A bucket that is not granted is as good as not there, whatever is asked; one that is granted to be read
// is not changed. The log is told which field would grant it.
func TestForeignBuckets(t *testing.T) {
	store := fake.NewStorage("sessions", "assets", "foreign")
	store.Before = func(_ context.Context, op, bucket, _ string) error {
		if bucket == "foreign" || bucket == "assets" && (op == "put" || op == "delete") {
			t.Errorf("%s of bucket %s", op, bucket)
		}
		return nil
	}
	c := open(t, store).Begin(t.Context())
	for what, err := range map[string]error{
		"get": last3(c.Get("foreign", "k", nil)), "set": last(c.Set("foreign", "k", nil, Always, "")), "delete": c.Delete("foreign", "k", Always, ""),
		"list": last(c.List("foreign", "", "", make([]byte, 100))), "stat": last(c.Stat("foreign", "k")), "open": last3(c.Open("foreign", "k", 0, -1)),
		"create": last(c.Create("foreign", "k", Always, "")), "no name": last3(c.Get("", "k", nil)),
		"set what is to be read": last(c.Set("assets", "k", nil, Always, "")), "delete what is to be read": c.Delete("assets", "k", Always, ""),
		"create what is to be read": last(c.Create("assets", "k", Always, "")),
	} {
		expect(t, what, err, ErrnoAccess)
		if err != nil && !strings.Contains(err.Error(), "spec.buckets") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(c.streams) != 0 {
		t.Error("what was refused holds a stream")
	}
}

// A bucket that is not there is told as such where a guest would otherwise try again for ever: a loop of
// compare-and-set ends.
func TestABucketThatIsNotThere(t *testing.T) {
	c := open(t, fake.NewStorage()).Begin(t.Context())
	expect(t, "get", last3(c.Get("sessions", "k", nil)), ErrnoAbsent)
	expect(t, "set if absent", last(c.Set("sessions", "k", nil, IfAbsent, "")), ErrnoNoBucket)
	expect(t, "set", last(c.Set("sessions", "k", nil, Always, "")), ErrnoNoBucket)
	expect(t, "list", last(c.List("sessions", "", "", make([]byte, 100))), ErrnoNoBucket)
	h, err := c.Create("sessions", "k", Always, "")
	expect(t, "create", err, 0)
	expect(t, "commit", last(c.Commit(h)), ErrnoNoBucket)
}

// Each answer of the store has its number; what a guest asks for every day is no news for the log.
func TestEachCodeHasItsNumber(t *testing.T) {
	store := fake.NewStorage("sessions")
	var code api.Code
	store.Before = func(context.Context, string, string, string) error { return api.Errorf(code, "why") }
	c := open(t, store).Begin(t.Context())
	for from, want := range map[api.Code]sandbox.Errno{
		api.CodeUnavailable: ErrnoAgain, api.CodeRateLimited: ErrnoAgain, api.CodeTimeout: ErrnoTimeout, api.CodeNotFound: ErrnoAbsent,
		api.CodeNoRoom: ErrnoNoRoom, api.CodeTooLarge: ErrnoTooLarge, api.CodeInvalid: ErrnoInvalid, api.CodeForbidden: ErrnoAccess, api.CodeInternal: ErrnoFault,
	} {
		code = from
		_, err := c.Stat("sessions", "k")
		expect(t, string(from), err, want)
		if quiet := want == ErrnoAbsent; err != nil && quiet != (err.Error() == "") {
			t.Errorf("%s: the log is told %q", from, err)
		}
	}
	code = api.CodeConflict // where the guest named no condition, another writer was in the way
	_, err := c.Set("sessions", "k", nil, Always, "")
	expect(t, "conflict", err, ErrnoAgain)
}

func TestTheLimitOfAValue(t *testing.T) {
	store := fake.NewStorage("sessions")
	c := open(t, store).Begin(t.Context())
	most := make([]byte, MaxValueBytes+1)
	_, err := c.Set("sessions", "k", most[:MaxValueBytes], Always, "")
	expect(t, "the largest", err, 0)
	n, _, err := c.Get("sessions", "k", most)
	if n != MaxValueBytes || err != nil {
		t.Error(n, err)
	}
	_, err = c.Set("sessions", "k", most, Always, "")
	expect(t, "one more byte", err, ErrnoTooLarge)
	h, err := c.Create("sessions", "k", Always, "")
	expect(t, "as a blob", err, 0)
	_, err = c.Write(h, most)
	expect(t, "as a blob", err, 0)
	_, err = c.Commit(h)
	expect(t, "as a blob", err, 0)
	_, _, err = c.Get("sessions", "k", most)
	expect(t, "a blob is no value", err, ErrnoTooLarge)
}

// A list gives each key once, in order, however small the pages are.
func TestListInPages(t *testing.T) {
	store := fake.NewStorage("sessions")
	c := open(t, store).Begin(t.Context())
	var want []string
	for i := range 50 {
		key := fmt.Sprintf("k/%03d\n%s", i, strings.Repeat("é", i))
		want = append(want, key)
		if _, err := c.Set("sessions", key, make([]byte, i), Always, ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Set("sessions", "l", nil, Always, ""); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{entryHead + 2*len(want[49]), 300, 1 << 20} {
		var got []string
		for after, p := "", make([]byte, size); ; {
			n, err := c.List("sessions", "k/", after, p)
			if err != nil {
				t.Fatal(size, err)
			}
			if n == 0 {
				break
			}
			for at := 0; at < n; {
				length := int(binary.LittleEndian.Uint32(p[at:]))
				after = string(p[at+entryHead : at+entryHead+length])
				if size := binary.LittleEndian.Uint64(p[at+4:]); size != uint64(len(got)) {
					t.Errorf("%q has %d bytes", after, size)
				}
				got = append(got, after)
				at += entryHead + length
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("in pages of %d: %q", size, got)
		}
	}
	_, err := c.List("sessions", "k/", "", make([]byte, entryHead+len(want[0])-1))
	expect(t, "no room for the first", err, ErrnoRange)
	_, err = c.List("sessions", "k/", "", nil)
	expect(t, "no room at all", err, ErrnoRange)
}

// A blob is read as it was when it was opened, and in any range.
func TestReadRanges(t *testing.T) {
	c := open(t, fake.NewStorage("sessions")).Begin(t.Context())
	if _, err := c.Set("sessions", "k", []byte("0123456789"), Always, ""); err != nil {
		t.Fatal(err)
	}
	for want, r := range map[string][2]int64{"0123456789": {0, -1}, "3456": {3, 4}, "89": {8, 100}, "": {10, -1}, "9": {9, 1}} {
		h, o, err := c.Open("sessions", "k", r[0], r[1])
		if err != nil || o.Size != 10 {
			t.Fatal(o, err)
		}
		if _, err := c.Set("sessions", "k", []byte("0123456789"), Always, ""); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for p := make([]byte, 3); ; {
			n, err := c.Read(h, p)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			got = append(got, p[:n]...)
		}
		if string(got) != want {
			t.Errorf("%v: %q", r, got)
		}
		expect(t, "write to what is read", last(c.Write(h, nil)), ErrnoHandle)
		expect(t, "commit what is read", last(c.Commit(h)), ErrnoHandle)
		expect(t, "close", c.Close(h), 0)
		expect(t, "close again", c.Close(h), ErrnoHandle)
	}
}

// What is written is there when it was committed, whole, and never otherwise: not while it is written, not
// when the handle is closed, not when the call ends, not when the replica does.
func TestOnlyACommitWrites(t *testing.T) {
	store := fake.NewStorage("sessions")
	a := New(store, granted)
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	begin := func(ctx context.Context, key string) (*Call, int) {
		c := a.Begin(ctx)
		h, err := c.Create("sessions", key, Always, "")
		if err != nil {
			t.Fatal(err)
		}
		for part := range bytes.Lines(bytes.ReplaceAll(data, []byte{7}, []byte{'\n'})) {
			if _, err := c.Write(h, part); err != nil {
				t.Fatal(err)
			}
		}
		return c, h
	}
	c, h := begin(t.Context(), "whole")
	expect(t, "read what is written", last(c.Read(h, nil)), ErrnoHandle)
	etag, err := c.Commit(h)
	o, statErr := c.Stat("sessions", "whole")
	if err != nil || statErr != nil || o.ETag != etag || o.Size != int64(len(data)) {
		t.Errorf("%+v, %v, %v", o, err, statErr)
	}
	expect(t, "commit again", last(c.Commit(h)), ErrnoHandle)
	c, h = begin(t.Context(), "closed")
	expect(t, "close", c.Close(h), 0)
	ctx, cancel := context.WithCancel(t.Context())
	c, h = begin(ctx, "ended")
	cancel()
	expect(t, "commit when the call has ended", last(c.Commit(h)), ErrnoEnded)
	begin(t.Context(), "replica")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"closed", "ended", "replica"} {
		if _, err := store.Stat(t.Context(), "sessions", key); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("%s was written", key)
		}
	}
}

// The condition of a blob counts when it is committed. A store that takes no more says why.
func TestABlobThatIsRefused(t *testing.T) {
	store := fake.NewStorage("sessions")
	c := open(t, store).Begin(t.Context())
	h, err := c.Create("sessions", "k", IfAbsent, "")
	expect(t, "create", err, 0)
	_, err = c.Set("sessions", "k", nil, Always, "")
	expect(t, "another is first", err, 0)
	expect(t, "commit", last(c.Commit(h)), ErrnoExists)
	store.Before = func(context.Context, string, string, string) error { return api.Errorf(api.CodeNoRoom, "the quota") }
	h, err = c.Create("sessions", "k", Always, "")
	expect(t, "create", err, 0)
	expect(t, "write", last(c.Write(h, []byte("x"))), ErrnoNoRoom)
	expect(t, "write again", last(c.Write(h, []byte("x"))), ErrnoNoRoom)
	expect(t, "commit", last(c.Commit(h)), ErrnoNoRoom)
	expect(t, "commit again", last(c.Commit(h)), ErrnoHandle)
}

// A call has so many blobs open and no more, a replica too; what a call leaves open is given back when it
// ends.
func TestHandlesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := fake.NewStorage("sessions")
		a := New(store, granted)
		defer a.Close()
		if _, err := a.Begin(t.Context()).Set("sessions", "k", nil, Always, ""); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range MaxStreams / MaxOpen {
			c := a.Begin(ctx)
			for i := range MaxOpen {
				var err error
				if i%2 == 0 {
					_, _, err = c.Open("sessions", "k", 0, -1)
				} else {
					_, err = c.Create("sessions", "l", Always, "")
				}
				expect(t, "the last that may", err, 0)
			}
			expect(t, "one too many for the call", last3(c.Open("sessions", "k", 0, -1)), ErrnoTooMany)
		}
		c := a.Begin(t.Context())
		expect(t, "one too many for the replica", last(c.Create("sessions", "k", Always, "")), ErrnoTooMany)
		cancel()
		synctest.Wait()
		for range MaxOpen {
			expect(t, "when the calls have ended", last3(c.Open("sessions", "k", 0, -1)), 0)
		}
	})
}

// No call waits longer than it lives, nor longer than its own bound: with a store that does not answer, and
// with all places taken.
func TestNothingHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := fake.NewStorage("sessions")
		store.Before = func(ctx context.Context, _, _, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}
		a := New(store, granted)
		defer a.Close()
		ctx, cancel := context.WithTimeout(t.Context(), opTimeout/2)
		defer cancel()
		expect(t, "get past the deadline", last3(a.Begin(ctx).Get("sessions", "k", nil)), ErrnoEnded)
		expect(t, "get without a deadline", last3(a.Begin(t.Context()).Get("sessions", "k", nil)), ErrnoTimeout)
		expect(t, "open without a deadline", last3(a.Begin(t.Context()).Open("sessions", "k", 0, -1)), ErrnoTimeout)
		for range MaxOperations {
			go func() { _, _ = a.Begin(t.Context()).Stat("sessions", "k") }()
		}
		synctest.Wait()
		ctx, cancel = context.WithTimeout(t.Context(), opTimeout/2)
		defer cancel()
		expect(t, "without a place", last(a.Begin(ctx).Stat("sessions", "k")), ErrnoEnded)
		c := a.Begin(ctx)
		h, err := c.Create("sessions", "k", Always, "")
		expect(t, "after its end", err, 0)
		expect(t, "write after its end", last(c.Write(h, []byte("x"))), ErrnoEnded)
	})
}
