package cli

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// What doctor takes for well.
const (
	skewWarned  = 2 * time.Second // beyond it times in lists and logs mislead
	skewFailed  = time.Hour       // beyond it certificates are refused
	certFailed  = 24 * time.Hour  // an API certificate renews itself ten days before its end
	reachTime   = 2 * time.Second
	defaultPort = "7700 7701 7702 7711 7712 7780 7790 9090 9091"
)

// worst is the status of a finding made of several.
func worst(a, b string) string {
	rank := map[string]int{"ok": 0, "warning": 1, "failed": 2}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// clocks compares this machine's clock with those of the coordinators, by the Date of their answers.
func clocks(probes []client.Probe) finding {
	f := finding{"clock", "ok", ""}
	var parts []string
	for _, p := range probes {
		if p.Err != nil && p.Skew == 0 {
			continue
		}
		switch ahead := p.Skew.Abs(); {
		case ahead > skewFailed:
			f.Status = worst(f.Status, "failed")
		case ahead > skewWarned:
			f.Status = worst(f.Status, "warning")
		}
		parts = append(parts, fmt.Sprintf("%s is %s", p.Address, aheadOrBehind(p.Skew)))
	}
	if len(parts) == 0 {
		return finding{"clock", "warning", "no coordinator answers to compare with"}
	}
	if f.Status != "ok" {
		parts = append(parts, "run NTP on all machines")
	}
	f.Detail = strings.Join(parts, "; ")
	return f
}

func aheadOrBehind(d time.Duration) string {
	switch {
	case d.Abs() <= skewWarned:
		return fmt.Sprintf("within %s", skewWarned)
	case d > 0:
		return d.Round(time.Second).String() + " ahead"
	}
	return d.Abs().Round(time.Second).String() + " behind"
}

// freePorts says which of the roles' default ports are taken on this machine.
func freePorts(ctx context.Context) finding {
	var taken []string
	for _, port := range strings.Fields(defaultPort) {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("", port))
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			taken = append(taken, port)
		case err == nil:
			_ = ln.Close() // nothing was accepted
		}
	}
	if len(taken) == 0 {
		return finding{"ports", "ok", "the default ports are free"}
	}
	return finding{"ports", "warning", "in use: " + strings.Join(taken, ", ") + "; well if a role runs here, else choose others with its --…-addr flags"}
}

// reach dials the coordinators' node ports, as an agent on this machine would.
func reach(ctx context.Context, members []api.Member) finding {
	f := finding{"coordinators", "ok", ""}
	var refused []string
	for _, m := range members {
		ctx, cancel := context.WithTimeout(ctx, reachTime)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", m.NodeAddr)
		cancel()
		if err != nil {
			refused = append(refused, fmt.Sprintf("%s at %s cannot be reached", m.Name, m.NodeAddr))
			continue
		}
		_ = conn.Close() // nothing was sent
	}
	f.Detail = fmt.Sprintf("%d of %d node ports can be reached", len(members)-len(refused), len(members))
	if len(refused) > 0 {
		f.Status, f.Detail = "warning", f.Detail+": "+strings.Join(refused, "; ")
	}
	return f
}

// certificates tells how long those have left that the coordinators show and that lie in the data folder.
func certificates(probes []client.Probe, dir string, now time.Time) finding {
	f := finding{"certificates", "ok", ""}
	var parts []string
	for _, p := range probes {
		if !p.NotAfter.IsZero() {
			f.Status = worst(f.Status, lifeLeft(p.NotAfter.Sub(now)))
			parts = append(parts, p.Address+" "+daysLeft(p.NotAfter.Sub(now)))
		}
	}
	for _, path := range []string{"ca.pem", "server.pem", "node.pem"} {
		cert, err := readCertificate(filepath.Join(dir, path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			f.Status = worst(f.Status, "failed")
			parts = append(parts, path+": "+err.Error())
		default:
			f.Status = worst(f.Status, memberLifeLeft(cert, now))
			parts = append(parts, path+" "+daysLeft(cert.NotAfter.Sub(now)))
		}
	}
	if f.Detail = strings.Join(parts, "; "); f.Detail == "" {
		f.Detail = "none to look at: the addresses speak plain HTTP, and the data folder has none"
	}
	return f
}

func lifeLeft(left time.Duration) string {
	if left < certFailed {
		return "failed"
	}
	return "ok"
}

// memberLifeLeft: a running member renews with a third of the life left; much less means that it does not.
func memberLifeLeft(cert *x509.Certificate, now time.Time) string {
	life, left := cert.NotAfter.Sub(cert.NotBefore), cert.NotAfter.Sub(now)
	switch {
	case left <= 0:
		return "failed"
	case left < life/4:
		return "warning"
	}
	return "ok"
}

func daysLeft(left time.Duration) string {
	if left <= 0 {
		return "has expired"
	}
	return fmt.Sprintf("has %.1f days left", left.Hours()/24)
}

func readCertificate(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("is no PEM file")
	}
	return x509.ParseCertificate(block.Bytes)
}
