package wasi

import (
	"encoding/binary"
	"math"
	"time"
)

const (
	maxSubscriptions  = 4096 // of one poll
	subscriptionBytes = 48
	eventBytes        = 32

	eventClock   = 0
	eventFdRead  = 1
	eventFdWrite = 2

	clockAbsolute = 1 // a flag of a subscription to a clock
	hangupFlag    = 1 // of an event
	noDeadline    = math.MaxUint64
)

// readiness is what a poll finds at a descriptor.
type readiness struct {
	ready  bool
	bytes  uint64 // that can be moved at least
	hangup bool   // the other side is gone
	err    error
}

// The objects that can be polled. What becomes ready later raises the world's wake.
type (
	readable interface{ readable(d *descriptor) readiness }
	writable interface{ writable(d *descriptor) readiness }
)

// subscription is one thing that a poll waits for.
type subscription struct {
	userdata uint64
	kind     byte
	fd       uint32
	clock    uint32
	deadline uint64 // on the clock
	err      error  // it cannot be waited for
}

// pollOneoff waits until one of the subscriptions has something to tell, and tells of all that have.
func pollOneoff(w *World, m memory, a args) error {
	count := a.u32(2)
	if count == 0 || count > maxSubscriptions {
		return eInval
	}
	w.config.Charge(int(count) * subscriptionBytes)
	if err := w.subscribe(m, a.u32(0), count); err != nil {
		return err
	}
	events, err := m.view(a.u32(1), count*eventBytes)
	if err != nil {
		return err
	}
	if _, err := m.view(a.u32(3), 4); err != nil {
		return err
	}
	return m.putU32(a.u32(3), w.poll(events))
}

// subscribe reads a guest's subscriptions; relative times begin now.
func (w *World) subscribe(m memory, ptr, count uint32) error {
	list, err := m.view(ptr, count*subscriptionBytes)
	if err != nil {
		return err
	}
	w.subscriptions = w.subscriptions[:0]
	for ; len(list) > 0; list = list[subscriptionBytes:] {
		s := subscription{
			userdata: binary.LittleEndian.Uint64(list), kind: list[8],
			fd: binary.LittleEndian.Uint32(list[16:]), clock: binary.LittleEndian.Uint32(list[16:]),
		}
		switch s.kind {
		case eventClock:
			// The precision asked for, at list[32:], is more than kept: a clock is never early.
			s.deadline, s.err = w.deadline(s.clock, binary.LittleEndian.Uint64(list[24:]), binary.LittleEndian.Uint16(list[40:]))
		case eventFdRead, eventFdWrite:
		default:
			return eInval
		}
		w.subscriptions = append(w.subscriptions, s)
	}
	return nil
}

// deadline is when a timeout has passed, on its clock and to its resolution.
func (w *World) deadline(clock uint32, timeout uint64, flags uint16) (uint64, error) {
	now, err := w.now(clock)
	if err != nil || flags&^clockAbsolute != 0 {
		return 0, eInval
	}
	if flags&clockAbsolute == 0 {
		timeout = saturate(now, timeout)
	}
	return w.tick(timeout), nil
}

// poll waits and writes the events; it returns how many.
func (w *World) poll(events []byte) uint32 {
	var timer *time.Timer
	for {
		n, next := w.look(events)
		if n > 0 {
			return n
		}
		var fires <-chan time.Time
		if next < math.MaxInt64 {
			if timer == nil {
				timer = time.NewTimer(time.Duration(next))
				defer timer.Stop()
			} else {
				timer.Reset(time.Duration(next))
			}
			fires = timer.C
		}
		w.pause(fires)
	}
}

// look writes the events that there are, and tells how long it is to the next clock's.
func (w *World) look(events []byte) (n uint32, next uint64) {
	next = noDeadline
	for i := range w.subscriptions {
		s := &w.subscriptions[i]
		r := readiness{ready: s.err != nil, err: s.err}
		switch {
		case s.err != nil:
		case s.kind == eventClock:
			now, _ := w.now(s.clock)
			if r.ready = now >= s.deadline; !r.ready {
				next = min(next, s.deadline-now)
			}
		default:
			r = w.readiness(s)
		}
		if r.ready {
			s.put(events[n*eventBytes:], r)
			n++
		}
	}
	return n, next
}

// readiness looks at a descriptor. One that cannot be polled is an event, not an error of the poll.
func (w *World) readiness(s *subscription) readiness {
	d, err := w.get(s.fd)
	if err != nil {
		return readiness{ready: true, err: err}
	}
	if !d.base.has(rightPoll) {
		return readiness{ready: true, err: eNotcapable}
	}
	needs := rightRead
	if s.kind == eventFdWrite {
		needs = rightWrite
	}
	if err := d.check(needs); err != nil {
		return readiness{ready: true, err: err}
	}
	if r, ok := d.object.(readable); ok && s.kind == eventFdRead {
		return r.readable(d)
	}
	if r, ok := d.object.(writable); ok && s.kind == eventFdWrite {
		return r.writable(d)
	}
	return readiness{ready: true, err: eBadf}
}

func (s *subscription) put(event []byte, r readiness) {
	event = event[:eventBytes]
	clear(event)
	binary.LittleEndian.PutUint64(event, s.userdata)
	binary.LittleEndian.PutUint16(event[8:], uint16(errnoOf(r.err)))
	event[10] = s.kind
	if s.kind == eventClock {
		return
	}
	binary.LittleEndian.PutUint64(event[16:], r.bytes)
	if r.hangup {
		event[24] = hangupFlag
	}
}
