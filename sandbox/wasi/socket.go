package wasi

import (
	"encoding/binary"
	"errors"
	"io"
)

const (
	recvPeek    = 1
	recvWaitAll = 2

	shutRead  = 1
	shutWrite = 2
)

// socket is the guest's end of a connection.
type socket struct{ *connection }

func (s *socket) filetype() filetype { return typeSocketStream }

func (s *socket) close() error {
	s.toHost.end(nil)
	s.toGuest.leave()
	return nil
}

func (s *socket) read(w *World, _ *descriptor, p []byte, wait bool) (int, error) {
	return s.recv(w, p, wait, false)
}

func (s *socket) recv(w *World, p []byte, wait, peek bool) (int, error) {
	for {
		n, err := s.toGuest.read(p, peek)
		switch {
		case errors.Is(err, io.EOF):
			return 0, nil
		case !errors.Is(err, errEmpty):
			return n, err
		case !wait:
			return 0, eAgain
		}
		w.pause(nil)
	}
}

// write writes all of p if it may wait, else what there is room for.
func (s *socket) write(w *World, _ *descriptor, p []byte, wait bool) (int, error) {
	written := 0
	for {
		n, err := s.toHost.write(p[written:])
		written += n
		switch full := errors.Is(err, errFull); {
		case full && wait:
			w.pause(nil)
		case full:
			return written, eAgain
		case err != nil, written == len(p):
			return written, err
		}
	}
}

func (s *socket) readable(*descriptor) readiness { return s.toGuest.readReadiness() }
func (s *socket) writable(*descriptor) readiness { return s.toHost.writeReadiness() }

func sockAccept(w *World, m memory, a args) error {
	flags := fdflags(a.u32(1))
	if a.u32(1)&^uint32(flagNonblock) != 0 {
		return eInval
	}
	d, err := w.get(a.u32(0))
	if err != nil {
		return err
	}
	from, ok := d.object.(*acceptor)
	if !ok {
		return notAcceptor(d)
	}
	if err := d.check(rightAccept); err != nil {
		return err
	}
	result, err := m.view(a.u32(2), 4)
	if err != nil {
		return err
	}
	fd, err := w.free() // looked at first: what is taken from the queue must have a place
	if err != nil {
		return err
	}
	c, err := from.accept(w, d.flags&flagNonblock == 0)
	if err != nil {
		return err
	}
	w.put(fd, &descriptor{object: &socket{c}, base: d.inheriting, flags: flags})
	binary.LittleEndian.PutUint32(result, fd)
	return nil
}

func notAcceptor(d *descriptor) error {
	if _, ok := d.object.(*socket); ok {
		return eInval
	}
	return eNotsock
}

func (a *acceptor) accept(w *World, wait bool) (*connection, error) {
	for {
		c, err := a.next()
		if err == nil {
			c.toGuest.listen(w.wake, nil)
			c.toHost.listen(nil, w.wake)
			return c, nil
		}
		if err != eAgain || !wait {
			return nil, err
		}
		w.pause(nil)
	}
}

// socket finds a connection.
func (w *World) socket(fd uint32, needs rights) (*descriptor, *socket, error) {
	d, err := w.get(fd)
	if err != nil {
		return nil, nil, err
	}
	s, ok := d.object.(*socket)
	if !ok {
		return nil, nil, eNotsock
	}
	return d, s, d.check(needs)
}

func sockRecv(w *World, m memory, a args) error {
	d, s, err := w.socket(a.u32(0), rightRead)
	if err != nil {
		return err
	}
	flags := a.u32(3)
	peek, all := flags&recvPeek != 0, flags&recvWaitAll != 0
	switch {
	case flags&^(recvPeek|recvWaitAll) != 0:
		return eInval
	case peek && all:
		return eNotsup
	}
	wait := d.flags&flagNonblock == 0
	n, err := w.buffers(m, a.u32(1), a.u32(2), func(p []byte, first bool) (int, error) {
		switch {
		case peek && !first:
			return 0, nil // it would be the same bytes again
		case all && wait:
			return s.recvAll(w, p)
		}
		return s.recv(w, p, wait && first, peek)
	})
	if err != nil {
		return err
	}
	if err := m.putU32(a.u32(4), n); err != nil {
		return err
	}
	flagsOut, err := m.view(a.u32(5), 2)
	clear(flagsOut) // a stream is never cut short
	return err
}

// recvAll fills p, unless the connection ends before.
func (s *socket) recvAll(w *World, p []byte) (int, error) {
	got := 0
	for got < len(p) {
		n, err := s.recv(w, p[got:], true, false)
		if n == 0 || err != nil {
			return got, err
		}
		got += n
	}
	return got, nil
}

func sockSend(w *World, m memory, a args) error {
	d, s, err := w.socket(a.u32(0), rightWrite)
	if err != nil {
		return err
	}
	if a.u32(3) != 0 {
		return eInval
	}
	n, err := w.buffers(m, a.u32(1), a.u32(2), func(p []byte, _ bool) (int, error) {
		return s.write(w, d, p, d.flags&flagNonblock == 0)
	})
	return m.putCount(a.u32(4), n, err)
}

func sockShutdown(w *World, _ memory, a args) error {
	_, s, err := w.socket(a.u32(0), rightShutdown)
	if err != nil {
		return err
	}
	how := a.u32(1)
	if how == 0 || how&^(shutRead|shutWrite) != 0 {
		return eInval
	}
	if how&shutRead != 0 {
		s.toGuest.leave()
	}
	if how&shutWrite != 0 {
		s.toHost.end(nil)
	}
	return nil
}
