package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudless/cloudless/api"
)

// answerTimeout bounds the work for an answer, the wait of a blocking read not counted.
const answerTimeout = time.Minute

// errCut ends a stream that broke after it had begun: the connection is cut, so that the client
// does not take what it has for the whole.
var errCut = errors.New("the stream broke")

// statusError is an error for which HTTP has a status of its own, other than its code's.
type statusError struct {
	err    *api.Error
	status int
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// answer is what a handler gives back: a status and a body to write as JSON. Keep, if set, is
// remembered for an Idempotency-Key instead of Body, which then holds what must not be stored.
type answer struct {
	status int
	body   any
	keep   any
}

func ok(body any) (answer, error)    { return answer{status: http.StatusOK, body: body}, nil }
func noContent() (answer, error)     { return answer{status: http.StatusNoContent}, nil }
func failed(e error) (answer, error) { return answer{}, e }

// okOr is ok, unless err says otherwise.
func okOr(body any, err error) (answer, error) {
	if err != nil {
		return failed(err)
	}
	return ok(body)
}

// noContentOr is noContent, unless err says otherwise.
func noContentOr(err error) (answer, error) {
	if err != nil {
		return failed(err)
	}
	return noContent()
}

// respond runs a handler and writes its answer; a write with an Idempotency-Key is done once and
// its answer remembered.
func (s *server) respond(c *call, r route) error {
	ctx, cancel := context.WithTimeout(c.context(), answerTimeout+api.MaxBlockingWait)
	defer cancel()
	c.setContext(ctx)
	var status int
	var body []byte
	err := s.audited(c, r, func() (err error) {
		if key := c.request().Header.Get("Idempotency-Key"); key != "" && r.class == classWrite {
			status, body, err = s.answerOnce(c, r, key)
			return err
		}
		a, err := r.answer(c)
		if err != nil {
			return err
		}
		status = a.status
		body, err = encode(a.body)
		return err
	})
	if err != nil {
		return err
	}
	return c.write(status, body)
}

// audited runs what a route does; if that changes anything, one line about it is in the audit log
// before it returns.
func (s *server) audited(c *call, r route, do func() error) error {
	if !r.audit() {
		return do()
	}
	return s.backend.Audited(c.caller, label(r), func() string { return c.object }, do)
}

func (s *server) answerOnce(c *call, r route, key string) (int, []byte, error) {
	if !plainID(key) || len(key) > api.MaxIdempotencyKeyLen {
		return 0, nil, api.Errorf(api.CodeInvalid, "the Idempotency-Key is not 1 to %d letters, digits and '._:-'", api.MaxIdempotencyKeyLen)
	}
	print, err := fingerprint(c)
	if err != nil {
		return 0, nil, err
	}
	var first []byte // the whole answer, while the state keeps what may be kept
	status, body, replay, err := s.backend.Idempotent(c.context(), c.caller, key, print, func() (int, []byte, error) {
		a, err := r.answer(c)
		if err != nil {
			return 0, nil, err
		}
		if first, err = encode(a.body); err != nil || a.keep == nil {
			return a.status, first, err
		}
		kept, err := encode(a.keep)
		return a.status, kept, err
	})
	if err != nil {
		return 0, nil, err
	}
	if replay {
		c.header().Set("Idempotency-Replayed", "true")
		return status, body, nil
	}
	return status, first, nil
}

// fingerprint tells one request from another under the same key.
func fingerprint(c *call) (string, error) {
	body, err := c.body()
	if err != nil {
		return "", err
	}
	r, h := c.request(), sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n", r.Method, r.URL.RequestURI(), r.Header.Get("If-Match"))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil)), nil
}

func encode(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	if own, ok := v.(json.Marshaler); ok { // encoding/json would read through it once more
		body, err := own.MarshalJSON()
		return append(body, '\n'), err
	}
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(v); err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return buf.Bytes(), nil
}

// fail writes the error envelope, unless the answer has begun.
func (s *server) fail(ec echo.Context, err error) {
	if ec.Response().Committed {
		return
	}
	e, status := describe(ec.Request(), err)
	if c := callOf(ec); c != nil {
		e.RequestID = c.caller.RequestID
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		ec.Response().Header().Set("Retry-After", "1")
	}
	body, _ := encode(api.ErrorBody{Error: e}) // strings only: cannot fail
	_ = writeJSON(ec, status, body)            // the client is gone: nobody to tell
}

// describe finds the error to show, a copy, and its status.
func describe(r *http.Request, err error) (*api.Error, int) {
	var known *api.Error
	var own *statusError
	var unrouted *echo.HTTPError
	switch {
	case errors.As(err, &own):
		shown := *own.err
		return &shown, own.status
	case errors.As(err, &known):
		shown := *known
		return &shown, shown.Code.HTTPStatus()
	case errors.As(err, &unrouted) && unrouted.Code == http.StatusMethodNotAllowed:
		return api.Errorf(api.CodeInvalid, "%s is not a method of %s", r.Method, r.URL.Path).WithHint("see /openapi.yaml"), unrouted.Code
	case errors.As(err, &unrouted) && unrouted.Code == http.StatusNotFound:
		return api.Errorf(api.CodeNotFound, "there is nothing at %s", r.URL.Path).WithHint("see /openapi.yaml"), unrouted.Code
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e := api.Errorf(api.CodeTimeout, "the request ended before its answer was ready")
		return e, e.Code.HTTPStatus()
	}
	e := api.AsError(err)
	return e, e.Code.HTTPStatus()
}

func writeJSON(ec echo.Context, status int, body []byte) error {
	if len(body) == 0 {
		return ec.NoContent(status)
	}
	return ec.Blob(status, echo.MIMEApplicationJSON, body)
}
