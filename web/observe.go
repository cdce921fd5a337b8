package web

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/cloudless/cloudless/api"
)

// maxCallerIDLen bounds a caller's own ids.
const maxCallerIDLen = 128

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]*$`)

// plainID tells what a caller's own id may look like; anything else is replaced, so that a log line
// cannot be forged through a header.
func plainID(s string) bool { return len(s) <= maxCallerIDLen && idPattern.MatchString(s) }

// observe gives the request its ids, its trace and its logger, runs it, answers its error, and
// writes its line in the access log.
func (s *server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(ec echo.Context) error {
		start := time.Now()
		c := s.newCall(ec)
		cause := recovered(next, ec)
		if cause != nil {
			s.fail(ec, cause)
		}
		s.access(c, time.Since(start), cause)
		if cut(cause) {
			panic(http.ErrAbortHandler) // a stream that broke must not look like one that ended
		}
		return nil
	}
}

func (s *server) newCall(ec echo.Context) *call {
	r := ec.Request()
	id := ownOr(r.Header.Get(echo.HeaderXRequestID), func() string { return api.NewID("req") })
	correlation := ownOr(r.Header.Get("X-Correlation-ID"), func() string { return id })
	ctx := traced(r)
	with := s.log.With().Str("request_id", id).Str("correlation_id", correlation)
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		with = with.Str("trace_id", span.TraceID().String())
	}
	log := with.Logger()
	ec.SetRequest(r.WithContext(log.WithContext(ctx)))
	c := &call{echo: ec, log: log, object: strings.TrimPrefix(r.URL.Path, "/v1/"), caller: api.Caller{Source: ec.RealIP(), RequestID: id, CorrelationID: correlation}}
	ec.Set(callKey, c)
	c.header().Set(echo.HeaderXRequestID, id)
	c.header().Set("X-Correlation-ID", correlation)
	return c
}

// traced is the request's context with the caller's trace in it, unless whoever wraps this server has
// begun a span of its own there already.
func traced(r *http.Request) context.Context {
	if ctx := r.Context(); trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
}

func ownOr(given string, otherwise func() string) string {
	if plainID(given) {
		return given
	}
	return otherwise()
}

// panicked is a panic in a handler, as an error.
type panicked struct {
	value any
	stack []byte
	begun bool // the answer had begun
}

func (p *panicked) Error() string { return "panic in a handler" }

// cut tells whether the connection must be cut: the answer had begun and cannot be finished.
func cut(err error) bool {
	var p *panicked
	return errors.Is(err, errCut) || errors.As(err, &p) && p.begun
}

func recovered(next echo.HandlerFunc, ec echo.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{v, debug.Stack(), ec.Response().Committed}
		}
	}()
	return next(ec)
}

// access writes one line for one request. The URL's query is left out, as what it filters by may be
// private; probes are logged at debug only.
func (s *server) access(c *call, took time.Duration, cause error) {
	r, resp := c.request(), c.echo.Response()
	e := c.log.WithLevel(accessLevel(r.URL.Path, resp.Status))
	var p *panicked
	if errors.As(cause, &p) {
		e = e.Interface("panic", p.value).Bytes("stack", p.stack)
	} else if inner := causeOf(cause); inner != nil {
		e = e.AnErr("cause", inner)
	}
	e.Str("method", r.Method).Str("path", r.URL.Path).Str("route", c.echo.Path()).
		Int("status", resp.Status).Int64("bytes", resp.Size).Dur("duration_ms", took).
		Str("token_id", c.caller.TokenID).Str("source", c.caller.Source).Msg("request")
}

func accessLevel(path string, status int) zerolog.Level {
	switch {
	case status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable:
		return zerolog.ErrorLevel
	case path == "/health" || path == "/ready" || path == "/metrics":
		return zerolog.DebugLevel
	}
	return zerolog.InfoLevel
}

// causeOf is what the log tells of an error and the answer does not.
func causeOf(err error) error {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
