package wasi

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sub is a subscription, event what a poll tells.
type (
	sub struct {
		id      uint64
		kind    byte
		what    uint32 // descriptor or clock
		timeout uint64
		flags   uint16
	}
	event struct {
		id     uint64
		errno  errno
		kind   byte
		bytes  uint64
		hangup bool
	}
)

func (g *guest) subscribe(subs []sub) uint32 {
	at := g.alloc(len(subs) * subscriptionBytes)
	for i, s := range subs {
		p := g.ram[at+uint32(i)*subscriptionBytes:]
		binary.LittleEndian.PutUint64(p, s.id)
		p[8] = s.kind
		binary.LittleEndian.PutUint32(p[16:], s.what)
		binary.LittleEndian.PutUint64(p[24:], s.timeout)
		binary.LittleEndian.PutUint16(p[40:], s.flags)
	}
	return at
}

func (g *guest) poll(subs ...sub) []event {
	g.t.Helper()
	heap := g.heap
	defer func() { g.heap = heap }()
	in, out, n := g.subscribe(subs), g.alloc(len(subs)*eventBytes), g.alloc(4)
	g.must("poll_oneoff", in, out, len(subs), n)
	events := make([]event, g.u32(n))
	for i := range events {
		at := out + uint32(i)*eventBytes
		events[i] = event{g.u64(at), errno(g.u16(at + 8)), g.ram[at+10], g.u64(at + 16), g.ram[at+24]&hangupFlag != 0}
	}
	return events
}

func (g *guest) wantEvents(got []event, want ...event) {
	g.t.Helper()
	if !slices.Equal(got, want) {
		g.t.Errorf("the events are %+v, want %+v", got, want)
	}
}

// bubbleGuest is a guest whose clocks are those of the test's bubble.
func bubbleGuest(t *testing.T, c Config) *guest {
	began := time.Now()
	c.Mono = func() time.Duration { return time.Hour + time.Since(began) }
	if c.Listener == nil && c.Mounts == nil {
		c.Mounts = []Mount{}
	}
	return newGuest(t, c)
}

func TestPollRefuses(t *testing.T) {
	g := newGuest(t, Config{})
	in, out, n := g.subscribe([]sub{{kind: eventClock}, {kind: eventFdWrite + 1}}), g.alloc(64), g.alloc(4)
	g.fails(eInval, "poll_oneoff", in, out, 0, n)
	g.fails(eInval, "poll_oneoff", in, out, 2, n)
	g.fails(eInval, "poll_oneoff", in, out, maxSubscriptions+1, n)
	g.fails(eInval, "poll_oneoff", in, out, uint32(math.MaxUint32), n)
	g.fails(eFault, "poll_oneoff", outside-subscriptionBytes+1, out, 1, n)
	g.fails(eFault, "poll_oneoff", in, outside-eventBytes+1, 1, n)
	g.fails(eFault, "poll_oneoff", in, out, 1, outside-3)
	g.must("poll_oneoff", in, outside-eventBytes, 1, n)
	g.ram = make(ram, maxSubscriptions*subscriptionBytes) // as many as may be, and all of them are clocks at 0
	g.must("poll_oneoff", 0, 0, maxSubscriptions, len(g.ram)-4)
}

func TestPollOfClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := bubbleGuest(t, Config{})
		now := time.Now()
		mono, wall := uint64(time.Hour), uint64(now.UnixNano())
		slept := func(want time.Duration) {
			t.Helper()
			if got := time.Since(now); got != want {
				t.Errorf("slept %v, want %v", got, want)
			}
			now = time.Now()
			mono, wall = mono+uint64(want), wall+uint64(want)
		}
		clock := func(id uint64, clock uint32, timeout uint64, flags uint16) sub {
			return sub{id, eventClock, clock, timeout, flags}
		}
		g.wantEvents(g.poll(clock(1, clockMonotonic, 0, 0)), event{id: 1})
		g.wantEvents(g.poll(clock(1, clockMonotonic, 1, clockAbsolute)), event{id: 1})
		slept(0)
		g.wantEvents(g.poll(clock(2, clockMonotonic, 5e9, 0), clock(3, clockRealtime, 2e9, 0), clock(4, clockRealtime, math.MaxUint64, 0)), event{id: 3})
		slept(2 * time.Second)
		g.wantEvents(g.poll(clock(5, clockMonotonic, mono+7e9, clockAbsolute), clock(6, clockRealtime, wall+7e9, clockAbsolute)), event{id: 5}, event{id: 6})
		slept(7 * time.Second)
		g.wantEvents(g.poll(clock(7, clockMonotonic, 1500, 0)), event{id: 7}) // never early: the guest's clock says 2 µs
		slept(2 * time.Microsecond)
		g.wantEvents(g.poll(clock(8, 2, 0, 0), clock(9, clockMonotonic, 1e9, 2), clock(1, clockMonotonic, 1e9, 0)),
			event{id: 8, errno: eInval}, event{id: 9, errno: eInval})
		slept(0)
	})
}

func TestPollEndsWithTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := bubbleGuest(t, Config{})
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		g.w.Bind(ctx, nil, nil, nil)
		err, _ := panicOf(func() { g.poll(sub{kind: eventClock, what: clockMonotonic, timeout: math.MaxUint64}) }).(error)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("after %v the poll ends with %v", time.Since(began), err)
		}
		for name, call := range map[string]func(){
			"read":   func() { g.read(0, 1) },
			"random": func() { g.call("random_get", heapStart, 1) },
			"yield":  func() { g.call("sched_yield") },
			"close":  func() { g.call("fd_close", 0) },
		} {
			if panicOf(call) == nil {
				t.Errorf("%s goes on after the end", name)
			}
		}
	})
}

func TestWaitingIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waited time.Duration
		g := bubbleGuest(t, Config{Wait: func(f func()) {
			began := time.Now()
			f()
			waited += time.Since(began)
		}})
		g.poll(sub{kind: eventClock, what: clockMonotonic, timeout: 3e9})
		if waited != 3*time.Second {
			t.Errorf("told of %v", waited)
		}
	})
}

func TestPollOfDescriptors(t *testing.T) {
	g := newGuest(t, Config{})
	g.create("file", "0123456789")
	fd := g.open(rootFD, "file", 0, fileRights, 0)
	g.seek(fd, 4, 0)
	read := func(fd uint32) sub { return sub{uint64(fd), eventFdRead, fd, 0, 0} }
	write := func(fd uint32) sub { return sub{uint64(fd), eventFdWrite, fd, 0, 0} }
	never := sub{99, eventClock, clockMonotonic, 1e18, 0}
	const pending = chunkBytes
	g.wantEvents(g.poll(never, read(fd), write(fd), write(1), write(2)),
		event{uint64(fd), success, eventFdRead, 6, false}, event{uint64(fd), success, eventFdWrite, pending, false},
		event{1, success, eventFdWrite, pending, false}, event{2, success, eventFdWrite, pending, false})
	g.wantEvents(g.poll(never, read(0)), event{0, success, eventFdRead, 0, true}) // its end
	g.seek(fd, 40, 0)
	g.wantEvents(g.poll(never, read(fd)), event{uint64(fd), success, eventFdRead, 0, false})
	reader := g.open(rootFD, "file", 0, rightRead|rightPoll, 0)
	mute := g.open(rootFD, "file", 0, rightRead, 0)
	g.wantEvents(g.poll(never, read(77), write(0), read(1), write(reader), read(mute), read(rootFD)),
		event{77, eBadf, eventFdRead, 0, false}, event{0, eBadf, eventFdWrite, 0, false}, event{1, eBadf, eventFdRead, 0, false},
		event{uint64(reader), eBadf, eventFdWrite, 0, false}, event{uint64(mute), eNotcapable, eventFdRead, 0, false},
		event{rootFD, eNotcapable, eventFdRead, 0, false})
}

func TestPollOfStdin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := bubbleGuest(t, Config{})
		r := make(slowReader)
		g.w.Bind(context.Background(), r, nil, nil)
		stdin, second := sub{1, eventFdRead, 0, 0, 0}, sub{2, eventClock, clockMonotonic, 1e9, 0}
		g.wantEvents(g.poll(stdin, second), event{id: 2})
		go func() {
			time.Sleep(500 * time.Millisecond)
			r <- "text"
		}()
		g.wantEvents(g.poll(stdin, second), event{1, success, eventFdRead, 4, false})
		g.wantEvents(g.poll(stdin, second), event{1, success, eventFdRead, 4, false}) // it is still there
		g.wantRead(0, 9, "text")
		go close(r)
		g.wantEvents(g.poll(stdin, second), event{1, success, eventFdRead, 0, true})
		g.wantRead(0, 9, "")
	})
}

// A poll that finds nothing sleeps: it looks once before, and once after each change.
func TestAnIdlePollDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := 0
		g := bubbleGuest(t, Config{Listener: NewListener(), Wait: func(f func()) { waits++; f() }})
		subs := []sub{{1, eventFdRead, firstPreopen, 0, 0}, {2, eventClock, clockMonotonic, uint64(24 * time.Hour), 0}}
		g.wantEvents(g.poll(subs...), event{id: 2})
		if waits != 1 {
			t.Errorf("in an idle day the guest woke up %d times", waits)
		}
	})
}

func TestAWriterThatFailsAtTheEndOfTheCallEndsIt(t *testing.T) {
	g := newGuest(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	g.w.Bind(ctx, nil, writerFunc(func(p []byte) (int, error) { cancel(); return 0, ctx.Err() }), nil)
	if err, _ := panicOf(func() { g.write(1, "x") }).(error); !errors.Is(err, context.Canceled) {
		t.Errorf("the write ends with %v", err)
	}
	if !strings.Contains(panicOf(func() { g.call("sched_yield") }).(error).Error(), "ended") {
		t.Error("the error does not say that the call has ended")
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
