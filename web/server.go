package web

import (
	"net/http"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
)

// Config is what New needs. Backend and Log are required. Health and Ready answer /health and
// /ready; without them Backend.Ready is asked. Metrics answers /metrics, which needs no token in Dev.
// Schema is the JSON Schema of the manifest, Version the binary's.
type Config struct {
	Backend Backend
	Log     zerolog.Logger
	Metrics http.Handler
	Health  http.Handler
	Ready   http.Handler
	Schema  []byte
	Dev     bool
	Version string
}

type server struct {
	cfg      Config
	backend  Backend
	log      zerolog.Logger
	echo     *echo.Echo
	rates    *rates
	sessions *sessions
}

// New makes the handler of the REST API and the dashboard. It starts nothing in the background;
// streams end with their request's context, so a server that stops cancels its BaseContext. The
// http.Server that it is put into sets MaxHeaderBytes, ReadHeaderTimeout and IdleTimeout, and no
// WriteTimeout: streams set their own deadline for each write.
func New(cfg Config) http.Handler { return newServer(cfg, defaultBudgets()).echo }

func newServer(cfg Config, b budgets) *server {
	s := &server{cfg: cfg, backend: cfg.Backend, log: cfg.Log, rates: newRates(b), sessions: newSessions(b)}
	s.echo = echo.New()
	s.echo.HideBanner, s.echo.HidePort = true, true
	s.echo.IPExtractor = echo.ExtractIPDirect() // never a header that the caller writes
	s.echo.HTTPErrorHandler = func(err error, c echo.Context) { s.fail(c, err) }
	s.echo.Use(s.observe, s.protect)
	for _, r := range s.routes() {
		s.echo.Add(r.method, r.path, s.serve(r))
		if r.headed() {
			s.echo.Add(http.MethodHead, r.path, s.serve(r)) // the HTTP server leaves the body out
		}
	}
	return s
}

// serve puts the checks that a route declares before its handler: rate by address, credential,
// role, rate by credential, query. What is cheap, and what needs no credential, comes first.
func (s *server) serve(r route) echo.HandlerFunc {
	return func(ec echo.Context) error {
		c := callOf(ec)
		if err := s.rates.allow(classAddress, c.caller.Source); err != nil {
			return err
		}
		if err := s.admit(c, r); err != nil {
			return err
		}
		if err := checkQuery(c, r); err != nil {
			return err
		}
		c.route = r
		if r.stream != nil {
			return r.stream(c)
		}
		return s.respond(c, r)
	}
}

// admit authenticates the caller and holds its role against the one that the route needs. A route
// that declares no role admits nobody.
func (s *server) admit(c *call, r route) error {
	if r.role == rolePublic {
		return nil
	}
	who, err := s.authenticate(c)
	if err != nil {
		return err
	}
	c.caller.TokenID, c.caller.Role = who.TokenID, who.Role
	c.header().Set("X-Cloudless-Version", s.cfg.Version)
	if !permits(who.Role, r.role) {
		return s.audited(c, r, func() error {
			return api.Errorf(api.CodeForbidden, "a token of role %s may not %s %s", who.Role, r.method, c.request().URL.Path).
				WithHint("this needs role %s", r.role)
		})
	}
	return s.rates.allow(r.class, c.key())
}
