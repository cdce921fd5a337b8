package simnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// pair is two hosts, of which b listens.
type pair struct {
	t    *testing.T
	net  *Network
	a, b *Host
	ln   net.Listener
}

func bubble(t *testing.T, f func(p *pair)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := New()
		p := &pair{t: t, net: n, a: n.Host("a"), b: n.Host("b")}
		p.listen()
		defer func() { p.ln.Close() }()
		f(p)
	})
}

func (p *pair) listen() {
	p.t.Helper()
	ln, err := p.b.Listen(80)
	if err != nil {
		p.t.Fatal(err)
	}
	p.ln = ln
}

func (p *pair) dial(timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), timeout)
	defer cancel()
	return p.a.Dial(ctx, "tcp", p.b.Addr(80))
}

// connect makes a connection; both ends are closed when the test ends.
func (p *pair) connect() (a, b net.Conn) {
	p.t.Helper()
	a, err := p.dial(time.Second)
	if err != nil {
		p.t.Fatal(err)
	}
	b, err = p.ln.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// read reads n bytes, within a minute.
func (p *pair) read(c net.Conn, n int) (string, error) {
	c.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, n)
	got, err := io.ReadFull(c, buf)
	return string(buf[:got]), err
}

func (p *pair) write(c net.Conn, text string) {
	p.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) expect(c net.Conn, want string) {
	p.t.Helper()
	if got, err := p.read(c, len(want)); err != nil || got != want {
		p.t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func TestBytesArriveInOrderAfterTheLatency(t *testing.T) {
	bubble(t, func(p *pair) {
		p.net.SetLatency(10 * time.Millisecond)
		began := time.Now()
		a, b := p.connect()
		if took := time.Since(began); took != 20*time.Millisecond {
			t.Errorf("a dial took %s, want a round trip", took)
		}
		began = time.Now()
		p.write(a, "hello ")
		p.write(a, "world")
		p.expect(b, "hello world")
		if took := time.Since(began); took != 10*time.Millisecond {
			t.Errorf("the bytes took %s", took)
		}
		p.write(b, "back")
		p.expect(a, "back")
		if a.RemoteAddr().String() != p.b.Addr(80) || b.LocalAddr().String() != p.b.Addr(80) || a.LocalAddr().String() != b.RemoteAddr().String() {
			t.Errorf("addresses %s %s %s %s", a.LocalAddr(), a.RemoteAddr(), b.LocalAddr(), b.RemoteAddr())
		}
	})
}

func TestHalfClose(t *testing.T) {
	bubble(t, func(p *pair) {
		a, b := p.connect()
		p.write(a, "all")
		a.(interface{ CloseWrite() error }).CloseWrite()
		if got, err := io.ReadAll(b); err != nil || string(got) != "all" {
			t.Fatalf("read %q, %v", got, err)
		}
		if _, err := a.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write after the end: %v", err)
		}
		p.write(b, "answer")
		p.expect(a, "answer")
	})
}

func TestACloseIsSeenByBoth(t *testing.T) {
	bubble(t, func(p *pair) {
		a, b := p.connect()
		done := make(chan error, 1)
		go func() { _, err := p.read(a, 1); done <- err }()
		synctest.Wait()
		a.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the read under way: %v", err)
		}
		if _, err := p.read(b, 1); err != io.EOF {
			t.Errorf("the peer's read: %v", err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("the peer's write: %v", err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	bubble(t, func(p *pair) {
		a, b := p.connect()
		began := time.Now()
		a.SetReadDeadline(began.Add(time.Second))
		_, err := a.Read(make([]byte, 1))
		var ne net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() || time.Since(began) != time.Second {
			t.Errorf("read: %v after %s", err, time.Since(began))
		}
		a.SetReadDeadline(time.Time{})
		p.write(b, "x")
		p.expect(a, "x")
		go func() {
			time.Sleep(time.Second)
			a.SetReadDeadline(time.Unix(1, 0)) // as net/http ends a read
		}()
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a read that is ended from outside: %v", err)
		}
	})
}

func TestAWriterWaitsForItsReader(t *testing.T) {
	bubble(t, func(p *pair) {
		a, b := p.connect()
		sent := bytes.Repeat([]byte("0123456789"), bufferBytes/5)
		a.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := a.Write(sent)
		if n != bufferBytes || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("wrote %d, %v; want %d and a deadline", n, err, bufferBytes)
		}
		a.SetWriteDeadline(time.Time{})
		go func() {
			a.Write(sent[n:])
			a.Close()
		}()
		if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("read %d of %d bytes, %v", len(got), len(sent), err)
		}
	})
}

func TestDialsThatAreRefused(t *testing.T) {
	bubble(t, func(p *pair) {
		refused := func(what string, prepare func()) {
			prepare()
			if c, err := p.dial(time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: %v, %v", what, c, err)
			}
		}
		refused("nobody listens", func() { p.ln.Close() })
		p.listen()
		refused("a way that refuses", func() { p.net.Set(Refuse, p.a, p.b) })
		p.net.Heal()
		p.connect()
		refused("a crashed host", p.b.Crash)
		if _, err := p.b.Dial(p.t.Context(), "tcp", p.a.Addr(80)); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("a crashed host dials: %v", err)
		}
		p.b.Start()
		p.listen()
		p.connect()
		var op *net.OpError
		if _, err := p.a.Dial(p.t.Context(), "tcp", "10.9.9.9:1"); !errors.Is(err, syscall.EHOSTUNREACH) || !errors.As(err, &op) || op.Op != "dial" {
			t.Errorf("no such host: %v", err)
		}
	})
}

func TestADialIsUnansweredWhereTheWayDropsIt(t *testing.T) {
	for _, oneWay := range []struct {
		name string
		set  func(p *pair)
	}{
		{"there", func(p *pair) { p.net.SetOneWay(Drop, p.a, p.b) }},
		{"back", func(p *pair) { p.net.SetOneWay(Drop, p.b, p.a) }},
	} {
		t.Run(oneWay.name, func(t *testing.T) {
			bubble(t, func(p *pair) {
				oneWay.set(p)
				began := time.Now()
				_, err := p.dial(3 * time.Second)
				var ne net.Error
				if !errors.As(err, &ne) || !ne.Timeout() || time.Since(began) != 3*time.Second {
					t.Errorf("%v after %s", err, time.Since(began))
				}
				go func() {
					time.Sleep(time.Second)
					p.net.Heal()
				}()
				if c, err := p.dial(10 * time.Second); err != nil {
					t.Errorf("after healing: %v", err)
				} else {
					c.Close()
				}
			})
		})
	}
}

func TestWhatIsLostIsSentAgainAfterHealing(t *testing.T) {
	bubble(t, func(p *pair) {
		a, b := p.connect()
		p.write(a, "before ")
		time.Sleep(time.Second)
		p.write(a, "on the way ")
		p.net.Set(Drop, p.a, p.b)
		p.write(a, "while cut")
		b.SetReadDeadline(time.Now().Add(time.Minute))
		buf := make([]byte, 100)
		if n, err := b.Read(buf); err != nil || string(buf[:n]) != "before " {
			t.Fatalf("read %q, %v", buf[:n], err)
		}
		if n, err := b.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read %q, %v through a cut", buf[:n], err)
		}
		p.net.Heal()
		p.expect(b, "on the way while cut")
	})
}

func TestOneDirectionMayBeCutAlone(t *testing.T) {
	bubble(t, func(p *pair) {
		a, b := p.connect()
		p.net.SetOneWay(Drop, p.a, p.b)
		p.write(b, "heard")
		p.expect(a, "heard")
		p.write(a, "not heard")
		b.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d bytes, %v", n, err)
		}
	})
}

func TestARefusingWayResetsConnections(t *testing.T) {
	bubble(t, func(p *pair) {
		a, b := p.connect()
		p.net.SetOneWay(Refuse, p.a, p.b)
		for _, c := range []net.Conn{a, b} {
			if _, err := p.read(c, 1); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read: %v", err)
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("write: %v", err)
			}
		}
	})
}

func TestACrashResetsConnections(t *testing.T) {
	bubble(t, func(p *pair) {
		a, b := p.connect()
		queued, err := p.dial(time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer queued.Close()
		p.b.Crash()
		for _, c := range []net.Conn{a, queued} {
			if _, err := p.read(c, 1); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the peer reads: %v", err)
			}
		}
		if _, err := b.Write([]byte("x")); err == nil {
			t.Error("a crashed host writes")
		}
		if _, err := p.ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a crashed host accepts: %v", err)
		}
	})
}

func TestACrashBehindACutIsSeenAfterHealing(t *testing.T) {
	bubble(t, func(p *pair) {
		a, _ := p.connect()
		p.net.Set(Drop, p.a, p.b)
		p.b.Crash()
		a.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("while cut: %v", err)
		}
		p.write(a, "into the void")
		p.net.Heal()
		if _, err := p.read(a, 1); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after healing: %v", err)
		}
	})
}

func TestPackets(t *testing.T) {
	bubble(t, func(p *pair) {
		one, err := p.a.Gossip(7702)
		if err != nil {
			t.Fatal(err)
		}
		two, err := p.b.Gossip(7702)
		if err != nil {
			t.Fatal(err)
		}
		defer one.Shutdown()
		defer two.Shutdown()
		send := func(text string) {
			if _, err := one.WriteTo([]byte(text), p.b.Addr(7702)); err != nil {
				t.Error(err)
			}
		}
		send("first")
		if got := <-two.PacketCh(); string(got.Buf) != "first" || got.From.String() != p.a.Addr(7702) {
			t.Errorf("got %q from %s", got.Buf, got.From)
		}
		p.net.SetOneWay(Drop, p.a, p.b)
		send("lost")
		time.Sleep(time.Second)
		p.net.Heal()
		send("second")
		if got := <-two.PacketCh(); string(got.Buf) != "second" {
			t.Errorf("got %q", got.Buf)
		}
	})
}

// TestMembersGossip shows that the transport is what memberlist needs.
func TestMembersGossip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		var lists []*memberlist.Memberlist
		var hosts []*Host
		for _, name := range []string{"a", "b", "c"} {
			h := n.Host(name)
			tr, err := h.Gossip(7702)
			if err != nil {
				t.Fatal(err)
			}
			cfg := memberlist.DefaultLANConfig()
			cfg.Name, cfg.Transport, cfg.LogOutput = name, tr, io.Discard
			m, err := memberlist.Create(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Join([]string{n.hosts["10.0.0.1"].Addr(7702)}); err != nil {
				t.Fatal(err)
			}
			lists, hosts = append(lists, m), append(hosts, h)
		}
		time.Sleep(10 * time.Second)
		if k := lists[0].NumMembers(); k != 3 {
			t.Errorf("%d members, want 3", k)
		}
		n.Part(Drop, hosts[:2], hosts[2:])
		time.Sleep(time.Minute)
		if k := lists[0].NumMembers(); k != 2 {
			t.Errorf("%d members while one is cut off, want 2", k)
		}
		for _, m := range lists {
			m.Shutdown()
		}
	})
}

func TestManyConnectionsAtOnce(t *testing.T) {
	bubble(t, func(p *pair) {
		const count = 3 * backlog
		var all sync.WaitGroup
		for range count {
			all.Go(func() {
				c, err := p.dial(time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				p.write(c, "ping\n")
				if got, err := p.read(c, 5); err != nil || strings.TrimSpace(got) != "ping" {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		for range count {
			c, err := p.ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				defer c.Close()
				io.CopyN(c, c, 5)
			})
		}
		all.Wait()
		if len(p.net.pipes) != 0 {
			t.Errorf("%d pipes are left", len(p.net.pipes))
		}
	})
}
