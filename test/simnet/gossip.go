package simnet

import (
	"context"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// packetQueue is how many packets may wait for their reader; more are lost, as UDP loses them.
const packetQueue = 1024

// transport is one host's gossip port: packets and streams.
type transport struct {
	host    *Host
	port    int
	packets chan *memberlist.Packet
	streams chan net.Conn
	ln      net.Listener
	done    chan struct{}
	once    sync.Once
	group   sync.WaitGroup
	stopped bool // guarded by net.mu
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// Gossip opens a port for gossip.
func (h *Host) Gossip(port int) (memberlist.NodeAwareTransport, error) {
	ln, err := h.Listen(port)
	if err != nil {
		return nil, err
	}
	t := &transport{
		host: h, port: port, ln: ln, packets: make(chan *memberlist.Packet, packetQueue), streams: make(chan net.Conn), done: make(chan struct{}),
	}
	h.net.mu.Lock()
	h.packets[port] = t
	h.net.mu.Unlock()
	t.group.Go(t.accept)
	return t, nil
}

func (t *transport) accept() {
	for {
		c, err := t.ln.Accept()
		if err != nil {
			return
		}
		select {
		case t.streams <- c:
		case <-t.done:
			c.Close()
			return
		}
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.ParseIP(t.host.IP).To4(), t.port, nil
}

// WriteTo implements memberlist.Transport. A packet that cannot arrive is lost without a word.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	ip, text, err := net.SplitHostPort(addr)
	if err != nil {
		return now, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return now, err
	}
	n := t.host.net
	n.mu.Lock()
	up, latency := t.host.up && !t.stopped, n.latency
	n.mu.Unlock()
	if !up {
		return now, &net.OpError{Op: "write", Net: "udp", Err: os.NewSyscallError("sendto", syscall.ENETDOWN)}
	}
	packet := &memberlist.Packet{Buf: append([]byte(nil), b...), From: &net.UDPAddr{IP: net.ParseIP(t.host.IP).To4(), Port: t.port}}
	time.AfterFunc(latency, func() { n.deliver(packet, route{t.host.IP, ip}, port) })
	return now, nil
}

// deliver hands a packet over if its way is still open.
func (n *Network) deliver(packet *memberlist.Packet, r route, port int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	to := n.hosts[r.to]
	if n.ways[r] != Open || to == nil || to.packets[port] == nil {
		return
	}
	packet.Timestamp = time.Now()
	select {
	case to.packets[port].packets <- packet:
	default:
	}
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return t.host.Dial(ctx, "tcp", addr)
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	var err error
	t.once.Do(func() {
		n := t.host.net
		n.mu.Lock()
		t.stopped = true
		if t.host.packets[t.port] == t {
			delete(t.host.packets, t.port)
		}
		n.mu.Unlock()
		close(t.done)
		err = t.ln.Close()
		t.group.Wait()
	})
	return err
}
