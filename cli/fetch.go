package cli

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
)

// fetchTime bounds the download of one manifest, from the look-up of its host to its last byte.
const fetchTime = 30 * time.Second

// isURL tells a manifest's address from a file.
func isURL(file string) bool {
	return strings.HasPrefix(file, "http://") || strings.HasPrefix(file, "https://")
}

// fetch downloads a manifest. It follows no redirect, so that what is applied comes from the place
// that was named, and sends no token there.
func (e *Env) fetch(ctx context.Context, address string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, usageError("%q is not a URL", address)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, usageError("%q is not a URL", u.Redacted())
	}
	req.Header.Set("User-Agent", "cloudless/"+version())
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	if err != nil {
		return nil, fetchFailed(u, err)
	}
	defer resp.Body.Close()
	if err := fetchStatus(u, resp); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, api.MaxManifestBytes+1))
	switch {
	case err != nil:
		return nil, fetchFailed(u, err)
	case len(data) > api.MaxManifestBytes:
		return nil, api.Errorf(api.CodeTooLarge, "%s is over %s", u.Redacted(), human(api.MaxManifestBytes))
	}
	return data, nil
}

func fetchFailed(u *url.URL, err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the address, which may hold a password
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return api.Errorf(api.CodeTimeout, "%s did not come within %s", u.Redacted(), fetchTime)
	}
	return api.Errorf(api.CodeUnavailable, "%s cannot be read: %w", u.Redacted(), err)
}

func fetchStatus(u *url.URL, resp *http.Response) error {
	to, redirects := resp.Location() // made whole: it may be relative
	switch {
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode == http.StatusNotFound:
		return api.Errorf(api.CodeNotFound, "there is no manifest at %s", u.Redacted())
	case resp.StatusCode >= 300 && resp.StatusCode < 400 && redirects == nil:
		return api.Errorf(api.CodeUnsupported, "%s redirects, and redirects are not followed", u.Redacted()).WithHint("if you trust it, apply -f %s", to.Redacted())
	}
	return api.Errorf(api.CodeUnavailable, "%s answers %s", u.Redacted(), resp.Status)
}
