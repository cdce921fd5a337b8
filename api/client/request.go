package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
)

// maxAnswer bounds a JSON answer: a page of the largest list fits.
const maxAnswer = 256 << 20

// firstPause is slept after all addresses failed once; it doubles up to maxPause, with jitter.
const (
	firstPause = 50 * time.Millisecond
	maxPause   = time.Second
)

// request is one call, sent as often as it takes.
type request struct {
	method  string
	path    string
	query   url.Values
	header  http.Header
	body    func() (io.ReadCloser, error) // opened anew for each attempt
	size    int64
	timeout time.Duration // of one attempt; 0 is the client's
	stream  bool          // the timeout ends with the response's head
}

// call sends in as JSON (unless nil) and decodes the answer into out (unless nil).
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any, header http.Header) error {
	r := &request{method: method, path: path, query: query, header: header}
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return api.Errorf(api.CodeInvalid, "the request does not encode: %w", err)
		}
		r.body, r.size = reopen(data), int64(len(data))
	}
	if wait, err := time.ParseDuration(query.Get("wait")); err == nil {
		r.timeout = c.cfg.RequestTimeout + wait
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decodeAnswer(resp, out)
}

func decodeAnswer(resp *http.Response, out any) error {
	if out == nil || resp.StatusCode == http.StatusNoContent {
		_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		return err
	}
	if err := decode(io.LimitReader(resp.Body, maxAnswer), out); err != nil {
		return api.Errorf(api.CodeUnavailable, "the answer of %s cannot be read: %w", resp.Request.URL.Host, err).
			WithHint("is this the address of a Cloudless coordinator?")
	}
	return nil
}

// decode reads JSON. Before what reads itself, encoding/json would read it twice.
func decode(r io.Reader, out any) error {
	own, ok := out.(json.Unmarshaler)
	if !ok {
		return json.NewDecoder(r).Decode(out)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return own.UnmarshalJSON(text)
}

func reopen(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// attempts is what became of a call so far.
type attempts struct {
	failures []string // one for each address of the last round
	last     error    // the last 503 that was answered, if any
	answered bool     // at some address somebody is, or may be
	faults   []error  // of addresses that a later moment would not mend
}

// do sends the request to the address that was good last, then to the others, round after round:
// twice when all refuse, until RetryFor has passed when some are there but have no leader.
func (c *Client) do(ctx context.Context, r *request) (*http.Response, error) {
	header := c.headers(r)
	deadline, pause := time.Now().Add(c.cfg.RetryFor), firstPause
	for round := 1; ; round++ {
		var a attempts
		if resp, err, done := c.round(ctx, r, header, &a); done {
			return resp, err
		}
		if round >= 2 && !a.answered || time.Now().After(deadline) {
			return nil, c.unavailable(&a)
		}
		if err := sleep(ctx, pause/2+rand.N(pause)); err != nil {
			return nil, ended(ctx, err)
		}
		pause = min(2*pause, maxPause)
	}
}

// round tries every address once. done means that there is an answer to give back.
func (c *Client) round(ctx context.Context, r *request, header http.Header, a *attempts) (resp *http.Response, err error, done bool) {
	start := int(c.good.Load())
	for i := range c.bases {
		at := (start + i) % len(c.bases)
		resp, err := c.attempt(ctx, c.bases[at], r, header)
		if ctx.Err() != nil {
			discard(resp)
			return nil, ended(ctx, ctx.Err()), true
		}
		if own := (*api.Error)(nil); errors.As(err, &own) {
			return nil, own, true // a file of ours that cannot be read, say
		}
		if err != nil {
			a.failures = append(a.failures, fmt.Sprintf("%s: %s", c.bases[at].Host, reason(err)))
			if fault := lasting(err, c.bases[at]); fault != nil {
				a.faults = append(a.faults, fault)
				continue
			}
			a.answered = a.answered || !nobody(err)
			continue
		}
		if resp.StatusCode == http.StatusServiceUnavailable {
			a.last, a.answered = decodeError(resp), true
			a.failures = append(a.failures, fmt.Sprintf("%s: %s", c.bases[at].Host, a.last))
			continue
		}
		c.good.Store(int32(at))
		if resp.StatusCode >= 300 {
			return nil, decodeError(resp), true
		}
		return resp, nil, true
	}
	if len(a.faults) == len(c.bases) {
		return nil, a.faults[0], true
	}
	return nil, nil, false
}

func discard(resp *http.Response) {
	if resp != nil {
		resp.Body.Close()
	}
}

// attempt sends once. The response's body ends the attempt's context when it is closed.
func (c *Client) attempt(ctx context.Context, base *url.URL, r *request, header http.Header) (*http.Response, error) {
	timeout := r.timeout
	if timeout == 0 {
		timeout = c.cfg.RequestTimeout
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(timeout, func() { cancel(errSilent) })
	req, err := r.build(ctx, base, header)
	if err == nil {
		var resp *http.Response
		if resp, err = c.http.Do(req); err == nil {
			if r.stream {
				timer.Stop()
			}
			resp.Body = &body{resp.Body, func() { timer.Stop(); cancel(nil) }}
			return resp, nil
		}
		if cause := context.Cause(ctx); cause == errSilent {
			err = cause
		}
	}
	timer.Stop()
	cancel(nil)
	return nil, err
}

var errSilent = errors.New("no answer in time")

func (r *request) build(ctx context.Context, base *url.URL, header http.Header) (*http.Request, error) {
	u := *base
	u.Path, u.RawPath = "", ""
	target := u.String() + strings.TrimRight(base.EscapedPath(), "/") + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	if r.body != nil {
		if req.Body, err = r.body(); err != nil {
			return nil, &api.Error{Code: api.CodeInvalid, Message: err.Error(), Err: err}
		}
		req.ContentLength, req.GetBody = r.size, r.body
		if r.size == 0 {
			req.Body.Close()
			req.Body = http.NoBody
		}
	}
	return req, nil
}

type body struct {
	io.ReadCloser
	done func()
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.done()
	return err
}

// headers are the same for every attempt, so that a repeated write is known by its key.
func (c *Client) headers(r *request) http.Header {
	h := http.Header{}
	for k, v := range r.header {
		h[k] = v
	}
	if c.cfg.Token != "" {
		h.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	if c.cfg.UserAgent != "" {
		h.Set("User-Agent", c.cfg.UserAgent)
	}
	h.Set("X-Request-ID", api.NewID("r"))
	h.Set("X-Correlation-ID", c.cfg.CorrelationID)
	if c.cfg.Traceparent != "" {
		h.Set("Traceparent", c.cfg.Traceparent)
	}
	if r.method != http.MethodGet && r.method != http.MethodHead {
		h.Set("Idempotency-Key", api.NewID("k"))
	}
	if r.body != nil && h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	return h
}

// decodeError reads the error envelope and closes the answer; an answer that is none keeps its status.
func decodeError(resp *http.Response) *api.Error {
	defer resp.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return errorFrom(resp, data)
}

func errorFrom(resp *http.Response, data []byte) *api.Error {
	var b api.ErrorBody
	if json.Unmarshal(data, &b) == nil && b.Error != nil && b.Error.Code != "" {
		if b.Error.RequestID == "" {
			b.Error.RequestID = resp.Header.Get("X-Request-ID")
		}
		return b.Error
	}
	if strings.Contains(string(data), "HTTP request to an HTTPS server") {
		return api.Errorf(api.CodeUnavailable, "%s speaks https", resp.Request.URL.Host).WithHint("write https:// in the address")
	}
	e := api.Errorf(codeOfStatus(resp.StatusCode), "%s %s: %s", resp.Request.Method, resp.Request.URL.Path, resp.Status)
	e.RequestID = resp.Header.Get("X-Request-ID")
	return e.WithHint("is %s the address of a Cloudless coordinator?", resp.Request.URL.Host)
}

// codeOfStatus is for answers without an error envelope, from proxies in between for instance.
func codeOfStatus(status int) api.Code {
	for _, c := range []api.Code{api.CodeUnauthorized, api.CodeForbidden, api.CodeNotFound, api.CodeConflict, api.CodeTooLarge,
		api.CodeRateLimited, api.CodeTimeout, api.CodeUnavailable, api.CodeInternal, api.CodeInvalid} {
		if c.HTTPStatus() == status {
			return c
		}
	}
	if status >= 500 {
		return api.CodeUnavailable
	}
	return api.CodeInvalid
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// setUint leaves zero out.
func setUint(q url.Values, key string, v uint64) {
	if v != 0 {
		q.Set(key, strconv.FormatUint(v, 10))
	}
}
