package client

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A certificate that does not count at this moment shows which clock is before the other, and by how
// much; whoever calls is told so.
func TestACertificateShowsThatClocksDiffer(t *testing.T) {
	now := time.Now()
	cert := &x509.Certificate{NotBefore: now.Add(4 * time.Hour), NotAfter: now.Add(8 * time.Hour)}
	past := &x509.Certificate{NotBefore: now.Add(-8 * time.Hour), NotAfter: now.Add(-2 * time.Hour)}
	bad := func(c *x509.Certificate, why x509.InvalidReason) error {
		return fmt.Errorf("tls: %w", x509.CertificateInvalidError{Cert: c, Reason: why})
	}
	for _, tt := range []struct {
		err  error
		want time.Duration
	}{
		{bad(cert, x509.Expired), 4 * time.Hour}, {bad(past, x509.Expired), -2 * time.Hour},
		{bad(cert, x509.NotAuthorizedToSign), 0}, {errors.New("refused"), 0}, {nil, 0},
	} {
		if got := clocksApart(tt.err, now); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
	err := lasting(bad(past, x509.Expired), &url.URL{Host: "a:1"})
	if err == nil || !strings.Contains(err.Error(), "2h0m0s apart or more") {
		t.Errorf("told: %v", err)
	}
}

func TestAFailureOfTheProxyIsToldAsThat(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for err, want := range map[error]string{
		refused: "connection refused",
		&url.Error{Op: "Get", Err: &net.OpError{Op: "proxyconnect", Net: "tcp", Err: refused}}: "the proxy that the environment names: connection refused",
	} {
		if got := reason(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestWhereNobodyIsIsNotAskedForLong(t *testing.T) {
	for err, want := range map[error]bool{
		&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}: true, &net.DNSError{IsNotFound: true}: true,
		&net.DNSError{IsTimeout: true}: false, errSilent: false,
	} {
		if got := nobody(fmt.Errorf("ask: %w", err)); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
