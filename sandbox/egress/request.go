package egress

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"unicode"
)

// Open checks a request and takes a handle for it. The header must hold fields that may be sent, and
// none that concern one connection alone.
func (f *Fetches) Open(method, target string, header http.Header) (int, error) {
	free := slices.Index(f.open[:], nil)
	if free < 0 {
		return 0, refuse(ErrnoTooMany, "%d fetches are open already: close those that are done", MaxOpen)
	}
	u, err := f.client.check(target)
	if err != nil {
		return 0, err
	}
	if method == http.MethodConnect {
		return 0, refuse(ErrnoInvalid, "the method CONNECT is for proxies")
	}
	ctx, cancel := context.WithCancel(f.ctx)
	n := &fetch{
		client: f.client, ctx: ctx, cancel: cancel, name: method + " " + u.Scheme + "://" + u.Host,
		length: -1, answers: make(chan answer, 1),
	}
	if n.request, err = http.NewRequestWithContext(ctx, method, u.String(), nil); err != nil {
		err = refuse(ErrnoInvalid, "%v", err)
	} else {
		err = n.take(header)
	}
	if err != nil {
		cancel()
		return 0, err
	}
	f.open[free] = n
	return free + 1, nil
}

// check reads a URL and judges where it leads.
func (c *Client) check(target string) (*url.URL, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, refuse(ErrnoInvalid, "this is no URL: %v", errors.Unwrap(err))
	}
	ascii := func(r rune) bool { return r > unicode.MaxASCII }
	switch host := u.Hostname(); {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, refuse(ErrnoInvalid, "a URL begins with http:// or https://, not %.20q", u.Scheme)
	case host == "" || slices.ContainsFunc([]rune(host), ascii):
		return nil, refuse(ErrnoInvalid, "the URL names no host in ASCII: write names of other letters in punycode")
	case u.User != nil:
		return nil, refuse(ErrnoInvalid, "the URL holds a user: send an authorization field")
	}
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if p := u.Port(); p != "" {
		port = p
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return nil, refuse(ErrnoInvalid, "%.20q is no port", port)
	}
	return u, c.policy.Allowed(u.Hostname(), uint16(n))
}

// take takes the header over. Host says what the URL says or nothing: another one would reach, at the
// same server, what no rule names.
func (n *fetch) take(header http.Header) error {
	h := http.Header{}
	maps.Copy(h, header)
	if hosts := h.Values("Host"); len(hosts) > 0 && (len(hosts) > 1 || hosts[0] != n.request.URL.Host) {
		return refuse(ErrnoInvalid, "the host field is %.80q, the URL's host %.80q", hosts, n.request.URL.Host)
	}
	h.Del("Host")
	if lengths := h.Values("Content-Length"); len(lengths) > 0 {
		length, err := strconv.ParseUint(lengths[0], 10, 63)
		if err != nil || len(lengths) > 1 {
			return refuse(ErrnoInvalid, "%.80q is no content-length", lengths)
		}
		if length > MaxBodyBytes {
			return refuse(ErrnoTooLarge, "a body of %d bytes is announced, at most %d are allowed", length, MaxBodyBytes)
		}
		n.length = int64(length)
	}
	h.Del("Content-Length")
	if _, named := h["User-Agent"]; !named {
		h.Set("User-Agent", "") // else net/http sends its own
	}
	n.request.Header = h
	return nil
}
