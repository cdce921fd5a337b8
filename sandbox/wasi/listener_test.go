package wasi

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

const listenFD = firstPreopen

// serving is a guest with a listener, and a connection to it.
func serving(t *testing.T) (*guest, *Listener) {
	l := NewListener()
	return bubbleGuest(t, Config{Listener: l}), l
}

func dial(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := l.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (g *guest) accept(flags fdflags) uint32 {
	g.t.Helper()
	at := g.alloc(4)
	g.must("sock_accept", listenFD, int(flags), at)
	return g.u32(at)
}

// connect is both ends of a connection.
func connect(t *testing.T, g *guest, l *Listener, flags fdflags) (uint32, net.Conn) {
	t.Helper()
	c := dial(t, l)
	return g.accept(flags), c
}

func TestTheListenersDescriptor(t *testing.T) {
	v := openVolume(t, t.TempDir(), VolumeLimits{})
	g := newGuest(t, Config{Listener: NewListener(), Mounts: []Mount{{"/", v, false}}})
	at := g.alloc(64)
	if st := g.fdstat(listenFD); st.kind != typeSocketStream || !st.base.has(rightAccept|rightPoll|rightSetFlags) {
		t.Errorf("the listener is %+v", st)
	}
	if st := g.stat(listenFD); st != (stat{kind: typeSocketStream}) {
		t.Errorf("its stat is %+v", st)
	}
	// Libraries look for mounts until a descriptor is bad, and pass over what is no directory.
	g.must("fd_prestat_get", listenFD, at)
	if g.ram[at] != prestatListener {
		t.Errorf("its tag is %d", g.ram[at])
	}
	g.must("fd_prestat_get", listenFD+1, at)
	if g.ram[at] != prestatDirectory {
		t.Errorf("the mount's tag is %d", g.ram[at])
	}
	vector, count := g.vector(at, 8)
	g.fails(eBadf, "fd_read", listenFD, vector, count, at)
	g.fails(eBadf, "fd_write", listenFD, vector, count, at)
	g.fails(eSpipe, "fd_seek", listenFD, 0, 0, at)
	g.fails(eNotsock, "sock_recv", listenFD, vector, count, 0, at, at)
	g.fails(eNotsock, "sock_send", listenFD, vector, count, 0, at)
	g.fails(eNotsock, "sock_shutdown", listenFD, 1)
	g.fails(eNotsock, "sock_shutdown", listenFD+1, 1)
	g.fails(eNotsock, "sock_accept", listenFD+1, 0, at)
	g.fails(eNotsock, "sock_accept", 0, 0, at)
	g.fails(eInval, "sock_accept", listenFD, int(flagAppend), at)
	g.fails(eFault, "sock_accept", listenFD, 0, outside)
}

func TestAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := serving(t)
		at := g.alloc(4)
		g.must("fd_fdstat_set_flags", listenFD, int(flagNonblock))
		g.fails(eAgain, "sock_accept", listenFD, 0, at)
		a := dial(t, l)
		defer a.Close()
		g.wantEvents(g.poll(sub{1, eventFdRead, listenFD, 0, 0}), event{1, success, eventFdRead, 1, false})
		fd := g.accept(flagNonblock)
		if st := g.fdstat(fd); st.kind != typeSocketStream || st.flags != flagNonblock || st.base != socketRights {
			t.Errorf("the connection is %+v", st)
		}
		g.fails(eAgain, "sock_accept", listenFD, 0, at)
		g.fails(eInval, "sock_accept", fd, 0, at)

		g.must("fd_fdstat_set_flags", listenFD, 0)
		began := time.Now()
		go func() {
			time.Sleep(time.Minute)
			c, _ := l.Dial(context.Background())
			c.Close()
		}()
		g.accept(0)
		if time.Since(began) != time.Minute {
			t.Errorf("accept waited %v", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		g.w.Bind(ctx, nil, nil, nil)
		if err, _ := panicOf(func() { g.accept(0) }).(error); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("accept ends with %v", err)
		}
	})
}

func TestAConnectionWithoutADescriptorStaysInTheQueue(t *testing.T) {
	l := NewListener()
	g := newGuest(t, Config{Listener: l, Descriptors: 5})
	first, second := dial(t, l), dial(t, l)
	defer first.Close()
	defer second.Close()
	fd := g.accept(0)
	g.fails(eMfile, "sock_accept", listenFD, 0, g.alloc(4))
	g.must("fd_close", fd)
	if got := g.accept(0); got != fd {
		t.Errorf("accepted as %d", got)
	}
	if _, err := second.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	g.wantRead(fd, 9, "x")
}

func TestBytesGoBothWays(t *testing.T) {
	g, l := serving(t)
	fd, c := connect(t, g, l, 0)
	defer c.Close()
	if _, err := io.WriteString(c, "hello guest"); err != nil {
		t.Fatal(err)
	}
	recv := func(flags int, n int) string {
		t.Helper()
		buf, size := g.alloc(n), g.alloc(8)
		vector, count := g.vector(buf, 2, buf+2, uint32(n-2))
		g.must("sock_recv", fd, vector, count, flags, size, size+4)
		return string(g.ram[buf : buf+g.u32(size)])
	}
	if got := recv(recvPeek, 4); got != "he" { // one buffer's
		t.Errorf("peek gives %q", got)
	}
	if got := recv(0, 7); got != "hello g" {
		t.Errorf("recv gives %q", got)
	}
	g.wantRead(fd, 2, "ue")
	go func() { _, _ = io.WriteString(c, "... more") }()
	if got := recv(recvWaitAll, 10); got != "st... more" {
		t.Errorf("waiting for all gives %q", got)
	}
	size := g.alloc(4)
	vector, count := g.vector(g.put([]byte("hello host")), 10)
	g.must("sock_send", fd, vector, count, 0, size)
	if n, e := g.write(fd, "!"); n != 1 || e != success {
		t.Errorf("fd_write: %d, errno %d", n, e)
	}
	got := make([]byte, 11)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello host!" {
		t.Errorf("the host reads %q: %v", got, err)
	}
	g.fails(eInval, "sock_send", fd, vector, count, 1, size)
	g.fails(eInval, "sock_recv", fd, vector, count, 4, size, size)
	g.fails(eNotsup, "sock_recv", fd, vector, count, recvPeek|recvWaitAll, size, size)
	g.fails(eSpipe, "fd_pread", fd, vector, count, 0, size)
}

func TestANonblockingConnection(t *testing.T) {
	g, l := serving(t)
	fd, c := connect(t, g, l, flagNonblock)
	defer c.Close()
	if _, e := g.read(fd, 1); e != eAgain {
		t.Errorf("nothing is there: errno %d", e)
	}
	full := strings.Repeat("x", pipeBytes-1)
	if n, e := g.write(fd, full); n != len(full) || e != success {
		t.Fatalf("below the limit: %d, errno %d", n, e)
	}
	g.heap = heapStart
	write := sub{1, eventFdWrite, fd, 0, 0}
	g.wantEvents(g.poll(write), event{1, success, eventFdWrite, 1, false})
	if n, e := g.write(fd, "ab"); n != 1 || e != success {
		t.Errorf("across the limit: %d, errno %d", n, e)
	}
	if _, e := g.write(fd, "b"); e != eAgain {
		t.Errorf("over the limit: errno %d", e)
	}
	go func() { _, _ = io.ReadFull(c, make([]byte, 10)) }()
	if events := g.poll(write); len(events) != 1 || events[0].bytes == 0 {
		t.Errorf("when there is room again: %+v", events)
	}
}

func TestABlockingWriteWaitsForTheHost(t *testing.T) {
	g, l := serving(t)
	fd, c := connect(t, g, l, 0)
	text := strings.Repeat("0123456789", pipeBytes/4)
	read := make(chan string)
	go func() {
		p, _ := io.ReadAll(c)
		read <- string(p)
	}()
	if n, e := g.write(fd, text); n != len(text) || e != success {
		t.Errorf("write: %d, errno %d", n, e)
	}
	g.must("fd_close", fd)
	if got := <-read; got != text {
		t.Errorf("the host reads %d bytes, want %d", len(got), len(text))
	}
	_ = c.Close()
}

func TestEnds(t *testing.T) {
	g, l := serving(t)
	t.Run("the host closes", func(t *testing.T) {
		fd, c := connect(t, g, l, 0)
		_, _ = io.WriteString(c, "last")
		_ = c.Close()
		g.wantEvents(g.poll(sub{1, eventFdRead, fd, 0, 0}), event{1, success, eventFdRead, 4, true})
		g.wantRead(fd, 9, "last")
		g.wantRead(fd, 9, "")
		if _, e := g.write(fd, "x"); e != ePipe {
			t.Errorf("write: errno %d", e)
		}
		if events := g.poll(sub{1, eventFdWrite, fd, 0, 0}); len(events) != 1 || !events[0].hangup {
			t.Errorf("the events are %+v", events)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the host reads after close: %v", err)
		}
	})
	t.Run("the guest closes", func(t *testing.T) {
		fd, c := connect(t, g, l, 0)
		defer c.Close()
		g.write(fd, "last")
		g.must("fd_close", fd)
		if p, err := io.ReadAll(c); err != nil || string(p) != "last" {
			t.Errorf("the host reads %q: %v", p, err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("the host writes: %v", err)
		}
	})
	t.Run("the guest shuts down", func(t *testing.T) {
		fd, c := connect(t, g, l, 0)
		defer c.Close()
		for _, how := range []int{0, 4, 7} {
			g.fails(eInval, "sock_shutdown", fd, how)
		}
		g.must("sock_shutdown", fd, shutWrite)
		if p, err := io.ReadAll(c); err != nil || len(p) != 0 {
			t.Errorf("the host reads %q: %v", p, err)
		}
		if _, e := g.write(fd, "x"); e != ePipe {
			t.Errorf("write: errno %d", e)
		}
		_, _ = io.WriteString(c, "still")
		g.wantRead(fd, 9, "still")
		g.must("sock_shutdown", fd, shutRead)
		g.wantRead(fd, 9, "")
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("the host writes: %v", err)
		}
	})
	t.Run("the host shuts down its side", func(t *testing.T) {
		fd, c := connect(t, g, l, 0)
		defer c.Close()
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
		g.wantRead(fd, 9, "")
		g.write(fd, "answer")
		g.must("fd_close", fd)
		if p, _ := io.ReadAll(c); string(p) != "answer" {
			t.Errorf("the host reads %q", p)
		}
	})
	t.Run("the instance ends", func(t *testing.T) {
		l := NewListener()
		g := newGuest(t, Config{Listener: l})
		fd, c := connect(t, g, l, 0)
		defer c.Close()
		g.write(fd, "half an ans")
		_ = g.w.Close()
		if p, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) || string(p) != "half an ans" {
			t.Errorf("the host reads %q: %v", p, err) // not a good end
		}
	})
	t.Run("a marked connection", func(t *testing.T) {
		g, l := serving(t)
		fd, c := connect(t, g, l, 0)
		g.w.Mark()
		if g.w.Restore() {
			t.Error("a connection was restored")
		}
		g.must("fd_close", fd)
		g.w.Mark()
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("the connection did not end when it went out of the mark: %v", err)
		}
		_, open := connect(t, g, l, 0)
		if !g.w.Restore() {
			t.Error("not restored")
		}
		if _, err := io.ReadAll(open); err != nil {
			t.Errorf("a connection made since did not end: %v", err)
		}
	})
}

func TestTheBacklogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := serving(t)
		for range listenerBacklog {
			defer dial(t, l).Close()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := l.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one too many: %v", err)
		}
		g.accept(0)
		defer dial(t, l).Close()
	})
}

func TestClosingTheListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := serving(t)
		fd, accepted := connect(t, g, l, 0)
		waiting := dial(t, l)
		go func() {
			time.Sleep(time.Second)
			_ = l.Close()
			_ = l.Close()
		}()
		read := sub{1, eventFdRead, listenFD, 0, 0}
		g.wantEvents(g.poll(read), event{1, success, eventFdRead, 1, false})
		time.Sleep(2 * time.Second)
		g.wantEvents(g.poll(read), event{1, success, eventFdRead, 0, true})
		g.fails(eInval, "sock_accept", listenFD, 0, g.alloc(4))
		if _, err := io.ReadAll(waiting); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("who waited reads %v", err)
		}
		if _, err := l.Dial(context.Background()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial: %v", err)
		}
		_, _ = io.WriteString(accepted, "still")
		g.wantRead(fd, 9, "still")
	})
}

func TestInstancesShareAListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewListener()
		a, b := bubbleGuest(t, Config{Listener: l}), bubbleGuest(t, Config{Listener: l})
		first, second := dial(t, l), dial(t, l)
		io.WriteString(first, "1")
		io.WriteString(second, "2")
		a.wantRead(a.accept(0), 1, "1")
		b.wantRead(b.accept(0), 1, "2")
		done := make(chan bool, 2)
		for _, g := range []*guest{a, b} { // who comes too late waits on, for the other has it
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				g.w.Bind(ctx, nil, nil, nil)
				done <- panicOf(func() { g.accept(0) }) == nil
			}()
		}
		synctest.Wait()
		dial(t, l)
		if one, other := <-done, <-done; one == other {
			t.Errorf("accepted: %t, %t", one, other)
		}
		a.w.Bind(context.Background(), nil, nil, nil)
		a.must("fd_close", listenFD)
		if len(l.wakes) != 1 {
			t.Errorf("%d guests listen", len(l.wakes))
		}
	})
}

func TestDeadlinesOfTheHostsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, l := serving(t)
		c := dial(t, l)
		began := time.Now()
		c.SetReadDeadline(began.Add(time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("read ends after %v with %v", time.Since(began), err)
		}
		c.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := c.Write(make([]byte, pipeBytes+1)); n != pipeBytes || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write of %d bytes: %v", n, err)
		}
		go func() { time.Sleep(time.Second); _ = c.Close() }()
		c.SetDeadline(time.Time{})
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read while it is closed: %v", err)
		}
	})
}

// The host's end behaves as net.Conn's users expect: two of them, back to back.
func TestTheHostsEndIsANetConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		c := newConnection()
		a, b := newConn(c), newConn(&connection{})
		b.in, b.out = &c.toGuest, &c.toHost
		b.in.listen(b.reader.signal, nil)
		b.out.listen(nil, b.writer.signal)
		return a, b, func() { _ = a.Close(); _ = b.Close() }, nil
	})
}
