package cli

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/telemetry"
)

// This file finds and binds the addresses of roles.

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	label, _, _ := strings.Cut(strings.ToLower(name), ".")
	return label
}

// outboundHost is this machine's address towards its default route. Nothing is sent: connecting a
// UDP socket only looks the route up.
func outboundHost() string {
	conn, err := new(net.Dialer).DialContext(context.Background(), "udp", "192.0.2.1:9")
	if err != nil {
		return "127.0.0.1"
	}
	defer conn.Close()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return "127.0.0.1"
	}
	return host
}

// listen binds an address. With port 0 the port of the last start, kept in the data folder, is tried
// first, so that others find this role where it was.
func listen(dir, name, addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, usageError("--%s: %q is not HOST:PORT", name, addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, usageError("--%s: %q is not a port", name, port).WithHint("use one of 1 to 65535, or 0 for any that is free")
	}
	file := filepath.Join(dir, "ports", name)
	if port == "0" {
		if kept, err := os.ReadFile(file); err == nil {
			if ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(host, strings.TrimSpace(string(kept)))); err == nil {
				return ln, nil
			}
		}
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, &api.Error{Code: api.CodeConflict, Op: "cannot open --" + name, Message: err.Error(), Hint: "choose another address with --" + name, Err: err}
	}
	if port != "0" {
		return ln, nil
	}
	_, got, _ := net.SplitHostPort(ln.Addr().String()) // it is a TCP address
	if err := errors.Join(datadir.Make(filepath.Dir(file)), datadir.WriteFile(file, []byte(got))); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// gossipAddr resolves port 0 like listen does. It binds the port for a moment, so that one that is
// taken is told before anything is written; Serf then binds TCP and UDP itself.
func gossipAddr(dir, addr string) (string, error) {
	ln, err := listen(dir, "gossip-addr", addr)
	if err != nil {
		return "", err
	}
	if _, port, _ := net.SplitHostPort(addr); port != "0" {
		return addr, ln.Close()
	}
	return ln.Addr().String(), ln.Close()
}

func portOf(ln net.Listener) string {
	_, port, _ := net.SplitHostPort(ln.Addr().String()) // it is a TCP address
	return port
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host == "" || host == "0.0.0.0" || host == "::" {
		return "localhost"
	}
	return host
}

// listenMetrics binds the metrics port before the role opens, so that a start that fails for it has
// changed nothing; nil if it is off.
func (c *closers) listenMetrics(dir, addr string) (net.Listener, error) {
	if addr == "" || addr == "off" {
		return nil, nil
	}
	ln, err := listen(dir, "metrics-addr", addr)
	if err != nil {
		return nil, err
	}
	c.add(func() error { return quiet(ln.Close()) })
	return ln, nil
}

func (c *closers) serveMetrics(ln net.Listener, tel *telemetry.Telemetry) string {
	if ln == nil {
		return ""
	}
	c.serveHTTP(ln, tel.ServeMux(), nil, tel)
	return "http://" + ln.Addr().String()
}

// clusterPorts lists the ports that containers and guests may not reach: the coordinators' standard
// ones and this node's own.
func clusterPorts(addrs ...string) []int {
	ports := []int{7700, 7701, 7702, 7711, 7712, 9090, 9091}
	for _, a := range addrs {
		_, text, _ := net.SplitHostPort(a) // addresses that were bound, or "" and "off"
		if p, err := strconv.Atoi(text); err == nil && p != 0 && !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	return ports
}

// quiet drops the error of closing what may be closed already.
func quiet(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func orAll(host string) string {
	if host == "" {
		return "0.0.0.0"
	}
	return host
}
