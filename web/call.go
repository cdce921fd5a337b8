package web

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
)

const (
	callKey      = "call"
	bodyTimeout  = 30 * time.Second // to send a JSON body, or the next piece of an upload
	writeTimeout = 30 * time.Second // to take the next piece of a stream
)

// call is one request: who asks, what for, and where the answer goes. It is the only thing through
// which handlers see the web framework.
type call struct {
	echo   echo.Context
	log    zerolog.Logger
	caller api.Caller
	route  route
	read   bool // the body was, with what came of it
	raw    []byte
	rawErr error
	object string // what the request is about, for the audit log
}

func callOf(ec echo.Context) *call {
	c, _ := ec.Get(callKey).(*call)
	return c
}

func (c *call) request() *http.Request         { return c.echo.Request() }
func (c *call) context() context.Context       { return c.echo.Request().Context() }
func (c *call) header() http.Header            { return c.echo.Response().Header() }
func (c *call) query(name string) string       { return c.echo.QueryParam(name) }
func (c *call) setContext(ctx context.Context) { c.echo.SetRequest(c.request().WithContext(ctx)) }
func (c *call) write(status int, body []byte) error {
	return writeJSON(c.echo, status, body)
}

// key is what rates and sessions are counted by.
func (c *call) key() string { return c.caller.TokenID + "@" + c.caller.Source }

// controller sets deadlines on the connection and flushes.
func (c *call) controller() *http.ResponseController {
	return http.NewResponseController(c.echo.Response())
}

// param is a piece of the path. The router matches the escaped form when the two differ.
func (c *call) param(name string) string {
	v := c.echo.Param(name)
	if c.request().URL.RawPath == "" {
		return v
	}
	if plain, err := url.PathUnescape(v); err == nil {
		return plain
	}
	return v
}

// workload is the namespace and name in the path.
func (c *call) workload() (ns, name string) { return c.param("ns"), c.param("name") }

// body is the request's body, read once, up to its limit.
func (c *call) body() ([]byte, error) {
	if !c.read {
		c.read = true // an error too is for good: what is left of a body that is too large is no body
		c.raw, c.rawErr = c.readBody()
	}
	return c.raw, c.rawErr
}

func (c *call) readBody() ([]byte, error) {
	rc := c.controller()
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // not supported by a recorder in tests
	limit := cmp.Or(c.route.body, api.MaxBodyBytes)
	raw, err := io.ReadAll(http.MaxBytesReader(c.echo.Response(), c.request().Body, limit))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, api.Errorf(api.CodeTooLarge, "the body is over %d bytes", limit).WithHint("send less, in several requests where it is a list; files go to /v1/objects and /v1/uploads")
	}
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "the body could not be read: %w", err)
	}
	_ = rc.SetReadDeadline(time.Time{})
	return raw, nil
}

// decode reads a JSON body, strictly: one value, known fields only.
func (c *call) decode(v any) error {
	raw, err := c.body()
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return api.Errorf(api.CodeInvalid, "the request has no body").WithHint("send JSON; see /openapi.yaml")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return explainJSON(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return api.Errorf(api.CodeInvalid, "the body goes on after its JSON value")
	}
	return nil
}

// decodeOptional is decode, but an absent body leaves v as it is.
func (c *call) decodeOptional(v any) error {
	raw, err := c.body()
	if err != nil || len(raw) == 0 {
		return err
	}
	return c.decode(v)
}

func explainJSON(err error) error {
	wrongType, syntax := new(json.UnmarshalTypeError), new(json.SyntaxError)
	switch {
	case errors.As(err, &wrongType):
		return api.Errorf(api.CodeInvalid, "field %q cannot be a %s", wrongType.Field, wrongType.Value)
	case errors.As(err, &syntax):
		return api.Errorf(api.CodeInvalid, "the body is not JSON: %w at byte %d", err, syntax.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return api.Errorf(api.CodeInvalid, "the body is not JSON: it ends too early").WithHint("send the whole document; see /openapi.yaml")
	}
	return api.Errorf(api.CodeInvalid, "%s", strings.TrimPrefix(err.Error(), "json: ")).WithHint("see /openapi.yaml")
}

// checkQuery refuses parameters that the route does not know: a filter with a typing error must not
// select everything.
func checkQuery(c *call, r route) error {
	if r.class == classAddress {
		return nil // documents, pages and probes take what they like
	}
	values, err := url.ParseQuery(c.request().URL.RawQuery)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "the query cannot be read: %w", err)
	}
	for name := range values {
		if !slices.Contains(r.query, name) {
			return api.Errorf(api.CodeInvalid, "unknown query parameter %q", name).WithHint("see /openapi.yaml")
		}
	}
	return nil
}

func badQuery(name, value, want string) error {
	return api.Errorf(api.CodeInvalid, "query parameter %s: %q is not %s", name, value, want)
}

// number reads a whole number between low and high; absent is the given one.
func (c *call) number(name string, absent, low, high int) (int, error) {
	text := c.query(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, badQuery(name, text, fmt.Sprintf("a number between %d and %d", low, high))
	}
	return n, nil
}

func (c *call) index(name string) (uint64, error) {
	text := c.query(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, badQuery(name, text, "an index")
	}
	return n, nil
}

func (c *call) flag(name string) (bool, error) {
	text := c.query(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, badQuery(name, text, "true or false")
	}
	return b, nil
}

// moment reads a time, or a duration that lies back from now.
func (c *call) moment(name string) (time.Time, error) {
	text := c.query(name)
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, badQuery(name, text, "a time such as 2026-11-23T11:00:00Z or a duration such as 10m")
	}
	return t, nil
}
