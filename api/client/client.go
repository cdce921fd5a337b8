// Package client is the typed HTTP client of the REST API, used by the command line, by tests and by
// programs outside. It knows several addresses, goes on to the next when one refuses, is silent or
// answers 503, and remembers the one that answered.
//
// Writes carry an Idempotency-Key, so that a request whose answer was lost can be sent again. Errors
// are *api.Error: the server's own, or CodeUnavailable naming the addresses tried.
package client

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/api"
)

// Config says whom to talk to, and as whom.
type Config struct {
	Addresses      []string // base URLs, tried in order
	Token          string
	TLS            *tls.Config
	UserAgent      string
	RequestTimeout time.Duration // of one attempt; default 30s
	RetryFor       time.Duration // how long a cluster without a leader is retried; default 10s
	Traceparent    string        // W3C trace context of all requests; may be empty
	CorrelationID  string        // joins the requests of one command; made up when empty
}

// Client talks to one cluster. It is safe for concurrent use.
type Client struct {
	cfg   Config
	bases []*url.URL
	good  atomic.Int32 // index of the address that answered last
	http  *http.Client
}

// New checks the configuration; it does not connect.
func New(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg}
	for _, a := range cfg.Addresses {
		u, err := url.Parse(strings.TrimRight(strings.TrimSpace(a), "/"))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
			return nil, api.Errorf(api.CodeInvalid, "%q is not an address", a).WithHint("write http://HOST:PORT or https://HOST:PORT, several with commas")
		}
		c.bases = append(c.bases, u)
	}
	if len(c.bases) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "no address of a cluster").WithHint("give --address or CLOUDLESS_ADDRESS")
	}
	if c.cfg.RequestTimeout <= 0 {
		c.cfg.RequestTimeout = 30 * time.Second
	}
	if c.cfg.RetryFor <= 0 {
		c.cfg.RetryFor = 10 * time.Second
	}
	if c.cfg.CorrelationID == "" {
		c.cfg.CorrelationID = api.NewID("c")
	}
	c.http = &http.Client{Transport: transport(cfg.TLS), CheckRedirect: noRedirect}
	return c, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Addresses are the base URLs, in the order given.
func (c *Client) Addresses() []string {
	out := make([]string, len(c.bases))
	for i, u := range c.bases {
		out[i] = u.String()
	}
	return out
}

func transport(t *tls.Config) *http.Transport {
	dialer := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       t,
		TLSHandshakeTimeout:   5 * time.Second,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       30 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

// noRedirect: a token goes to the configured addresses only.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// IsNotFound tells whether the error says that the named thing does not exist.
func IsNotFound(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == api.CodeNotFound
}
