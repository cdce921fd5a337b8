package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/pki"
)

// Times of a client. A connection that has been silent for pingAfter is pinged, and dropped if no
// answer comes within pingTimeout, so that a frozen peer is not waited for.
const (
	dialTimeout   = 5 * time.Second
	tryTimeout    = 2 * time.Second // of one address where there are others to try
	pingAfter     = 2 * time.Second
	pingTimeout   = 2 * time.Second
	idleTimeout   = 90 * time.Second
	joinTimeout   = 30 * time.Second
	maxRespHeader = 64 << 10
)

// NetDial opens a plain connection; nil stands for net.Dialer. It is the seam for tests.
type NetDial func(ctx context.Context, network, addr string) (net.Conn, error)

func (d NetDial) dial(ctx context.Context, addr string) (net.Conn, error) {
	if d != nil {
		return d(ctx, "tcp", addr)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

// Dialer calls the mTLS ports of other members. Its connections are among Peers, if there are any.
type Dialer struct {
	Creds *pki.Credentials
	Net   NetDial
	Peers *Peers
}

// Dial connects and shakes hands with the member that want names, within 5 s: a request may wait for
// its answer much longer, but others wait for the same connection. The peer checks our certificate
// last: its refusal shows at the first Read.
func (d *Dialer) Dial(ctx context.Context, addr, alpn string, want pki.Identity) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := d.Net.dial(ctx, addr)
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "cannot reach %s: %w", addr, err)
	}
	return d.Handshake(ctx, raw, alpn, want)
}

// DialAny is Dial to the first of several addresses at which that member is. What does not answer may
// keep the next one waiting for 2 s, and no address is believed: the certificate at its end is.
func (d *Dialer) DialAny(ctx context.Context, addrs []string, alpn string, want pki.Identity) (net.Conn, error) {
	errs := []error{fmt.Errorf("no address of %s %s answers", want.Role, want.ID)}
	for i, addr := range addrs {
		conn, err := d.try(ctx, addr, alpn, want, i == len(addrs)-1)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (d *Dialer) try(ctx context.Context, addr, alpn string, want pki.Identity, last bool) (net.Conn, error) {
	if !last {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, tryTimeout)
		defer cancel()
	}
	return d.Dial(ctx, addr, alpn, want)
}

// Handshake makes raw, which it owns from now on, a connection to the member that want names.
func (d *Dialer) Handshake(ctx context.Context, raw net.Conn, alpn string, want pki.Identity) (net.Conn, error) {
	raw = d.Peers.carrier(raw)
	conn, err := clientHandshake(ctx, raw, d.Creds.ClientConfig(alpn, want))
	if err != nil {
		return nil, err
	}
	if id, ok := PeerOf(conn); ok {
		if err := d.Peers.name(raw, id, d.Creds.Welcome); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

func clientHandshake(ctx context.Context, raw net.Conn, cfg *tls.Config) (net.Conn, error) {
	ctx, cancel := withDefaultTimeout(ctx, dialTimeout)
	defer cancel()
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("handshake with %s: %w", raw.RemoteAddr(), err)
	}
	return conn, nil
}

func withDefaultTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}

// HTTPClient speaks HTTP/2 to members that want allows; a URL's host is the address to dial. Requests
// have no time limit but their context's; a peer that has gone silent is found by pings.
func (d *Dialer) HTTPClient(alpn string, want pki.Identity) *http.Client {
	return http2Client(func(ctx context.Context, addr string) (net.Conn, error) {
		return d.Dial(ctx, addr, alpn, want)
	})
}

// MemberHTTPClient is HTTPClient for one member, which addrs tells the whereabouts of at each dial; a
// URL's host does not matter.
func (d *Dialer) MemberHTTPClient(alpn string, want pki.Identity, addrs func() []string) *http.Client {
	return http2Client(func(ctx context.Context, _ string) (net.Conn, error) {
		return d.DialAny(ctx, addrs(), alpn, want)
	})
}

func http2Client(dial func(ctx context.Context, addr string) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http2.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string, _ *tls.Config) (net.Conn, error) {
			return dial(ctx, addr)
		},
		ReadIdleTimeout:    pingAfter,
		PingTimeout:        pingTimeout,
		IdleConnTimeout:    idleTimeout,
		MaxHeaderListSize:  maxRespHeader,
		DisableCompression: true,
	}}
}

// JoinHTTPClient calls the join API of a coordinator of which only the CA's hash is known. Nothing
// is sent before the CA was checked. A URL's host is the address to dial.
func JoinHTTPClient(caHash string, dial NetDial) *http.Client {
	cfg := pki.JoinClientConfig(caHash)
	return &http.Client{
		Timeout: joinTimeout,
		Transport: &http.Transport{
			DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				ctx, cancel := withDefaultTimeout(ctx, dialTimeout)
				defer cancel()
				raw, err := dial.dial(ctx, addr)
				if err != nil {
					return nil, api.Errorf(api.CodeUnavailable, "cannot reach %s: %w", addr, err).WithHint(joinHint)
				}
				return clientHandshake(ctx, raw, cfg)
			},
			DisableKeepAlives:      true, // one request, then never again
			MaxResponseHeaderBytes: maxRespHeader,
		},
	}
}

// IsDial tells whether err is that no connection could be made: nothing was sent then.
func IsDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
