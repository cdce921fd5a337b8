package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/cloudless/cloudless/api"
)

// reason says in a few words why an address did not answer.
func reason(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "the proxy that the environment names: " + reason(op.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &dns):
		return "unknown host"
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return err.Error()
}

// nobody tells that there is no coordinator at an address: no program listens there, or it has no such host.
func nobody(err error) bool {
	var dns *net.DNSError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &dns) && dns.IsNotFound
}

// lasting gives the error for what is wrong with an address and a later moment would not mend: a
// certificate that is not trusted, a clock that is off, a wrong scheme. Another address may do.
func lasting(err error, base *url.URL) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &unknown):
		return api.Errorf(api.CodeUnavailable, "%s: the certificate is not from a known authority: %w", base.Host, err).
			WithHint("give --ca-cert the ca.pem of the cluster")
	case errors.As(err, &host):
		return api.Errorf(api.CodeUnavailable, "%s: %w", base.Host, host).WithHint("use a name of the certificate, or start the coordinator with --tls-san")
	case clocksApart(err, time.Now()) != 0:
		return api.Errorf(api.CodeUnavailable, "%s: %w", base.Host, err).
			WithHint("its clock and this machine's are %s apart or more: set the one that is wrong, and run NTP on all machines", clocksApart(err, time.Now()).Abs().Round(time.Minute))
	case errors.As(err, &verify):
		return api.Errorf(api.CodeUnavailable, "%s: %w", base.Host, verify).WithHint("check the clock of this machine and --ca-cert")
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return api.Errorf(api.CodeUnavailable, "%s speaks plain http", base.Host).WithHint("write http:// in the address")
	}
	return nil
}

// clocksApart is by how much at least the other machine's clock is before ours, as a certificate shows
// that does not count at this moment; 0 when that is not what failed.
func clocksApart(err error, now time.Time) time.Duration {
	var invalid x509.CertificateInvalidError
	switch {
	case !errors.As(err, &invalid) || invalid.Reason != x509.Expired:
		return 0
	case now.Before(invalid.Cert.NotBefore):
		return invalid.Cert.NotBefore.Sub(now)
	}
	return invalid.Cert.NotAfter.Sub(now)
}

// unavailable is the error after the last round: the server's own words when there were any, and in
// any case every address that was tried.
func (c *Client) unavailable(a *attempts) error {
	e := api.Errorf(api.CodeUnavailable, "the cluster cannot be reached: %s", strings.Join(a.failures, "; "))
	var answered *api.Error
	if errors.As(a.last, &answered) {
		e.RequestID = answered.RequestID
		if answered.Hint != "" {
			return e.WithHint("%s", answered.Hint)
		}
	}
	return e.WithHint("is it running, and is --address or the context right? see 'cloudless config view'")
}

// ended tells a deadline of the caller from an interruption.
func ended(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &api.Error{Code: api.CodeTimeout, Message: "no answer before the time was up", Err: err}
	}
	return context.Cause(ctx)
}
