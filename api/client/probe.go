package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/cloudless/cloudless/api"
)

// Probe is what one address answers to a request for its health.
type Probe struct {
	Address  string
	Err      error
	Skew     time.Duration // its clock before ours; good to half a second, as HTTP tells whole ones. With Err: see clocksApart
	NotAfter time.Time     // of its certificate; zero without TLS
}

// Probes asks every address once, whatever the others answer.
func (c *Client) Probes(ctx context.Context) []Probe {
	out := make([]Probe, len(c.bases))
	for i, base := range c.bases {
		out[i] = c.probe(ctx, base)
	}
	return out
}

func (c *Client) probe(ctx context.Context, base *url.URL) Probe {
	p := Probe{Address: base.Host}
	r := &request{method: http.MethodGet, path: "/health"}
	sent := time.Now()
	resp, err := c.attempt(ctx, base, r, c.headers(r))
	if err != nil {
		p.Err = api.Errorf(api.CodeUnavailable, "%s: %s", base.Host, reason(err))
		p.Skew = clocksApart(err, sent)
		return p
	}
	defer resp.Body.Close()
	middle := sent.Add(time.Since(sent) / 2)
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		p.Skew = date.Add(time.Second / 2).Sub(middle)
	}
	if resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
		p.NotAfter = resp.TLS.PeerCertificates[0].NotAfter
	}
	return p
}

// Page reads one of the pages that are no JSON objects of the API, such as /metrics, in whole.
func (c *Client) Page(ctx context.Context, path string) ([]byte, error) {
	resp, err := c.do(ctx, &request{method: http.MethodGet, path: path})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
}
