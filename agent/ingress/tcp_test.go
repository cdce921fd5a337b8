package ingress

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

func freePort(t *testing.T) int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// answering is a TCP container that reads to the end and answers with what it read.
func (n *network) answering(prefix string) replica {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(patience))
				got, err := io.ReadAll(conn)
				if err == nil {
					io.WriteString(conn, prefix+string(got))
				}
			})
		}
	})
	n.Cleanup(func() { ln.Close(); conns.Wait() })
	return at(ln.Addr(), api.ProtocolTCP)
}

func TestTCP(t *testing.T) {
	n := newNetwork(t)
	one, local := n.node("n-1", "a")
	_, there := n.node("n-2", "b")
	remote := n.answering("remote ")
	there.set("r-2", remote)
	public := freePort(t)
	n.table.Services[0].Ports = []api.Port{{Port: remote.ports[0].Port, Protocol: api.ProtocolTCP, Publish: public}}
	n.endpoint("r-2", "n-2", "b")
	one.PublishTCP("127.0.0.1", true)
	one.Update(&n.table)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(public))
	ask := func() (string, error) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, "hello")
		conn.(*net.TCPConn).CloseWrite() // half a connection is enough for the answer
		got, err := io.ReadAll(conn)
		return string(got), err
	}
	if got, err := ask(); err != nil || got != "remote hello" {
		t.Errorf("remote: %q, %v", got, err)
	}
	// A local replica on the same container port goes first; the first one has gone away meanwhile.
	l := n.answering("local ")
	n.table.Services[0].Ports[0].Port = l.ports[0].Port
	local.set("r-1", l)
	one.Update(&n.table)
	if got, err := ask(); err != nil || got != "local hello" {
		t.Errorf("local: %q, %v", got, err)
	}
	n.table.Services[0].Ports = nil
	one.Update(&n.table)
	if _, err := ask(); err == nil {
		t.Error("the port is still open after its service is gone")
	}
}

func TestTCPPortTaken(t *testing.T) {
	n := newNetwork(t)
	in, _ := n.node("n-1", "a")
	told := 0
	in.cfg.OnPortRefused = func(int, error) { told++ }
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	n.table.Services[0].Ports = []api.Port{{Port: port, Protocol: api.ProtocolTCP}}
	in.PublishTCP("127.0.0.1", true)
	in.Update(&n.table)
	in.Update(&n.table)
	if told != 1 {
		t.Errorf("told %d times, not once", told)
	}
	ln.Close()
	in.Update(&n.table)
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil || told != 1 {
		t.Fatalf("after the port is free: %v, told %d times", err, told)
	}
	conn.Close()
	in.PublishTCP("127.0.0.1", false)
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("listens although it was told to stop")
	}
}

func TestPeerRefusesUnknownTCPPorts(t *testing.T) {
	n := newNetwork(t)
	in, local := n.node("n-1", "a")
	r := n.answering("")
	local.set("r-1", r)
	for _, port := range []int{22, r.ports[0].Port + 1} {
		_, err := in.dialRemoteTCP(context.Background(), target{replicaID: "r-1", nodeID: "n-1"}, port)
		if !errors.Is(err, errRefused) {
			t.Errorf("port %d: %v", port, err)
		}
	}
}
