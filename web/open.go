package web

import (
	_ "embed"
	"net/http"

	"github.com/cloudless/cloudless/api"
)

// openAPI describes every path and every body; tests hold real answers against it.
//
//go:embed openapi.yaml
var openAPI []byte

// handlerOr hands the request to a plain handler, or, without one, to otherwise.
func handlerOr(h http.Handler, otherwise func(*call) error) func(*call) error {
	if h == nil {
		return otherwise
	}
	return func(c *call) error {
		h.ServeHTTP(c.echo.Response(), c.request())
		return nil
	}
}

func notHere(c *call) error {
	return api.Errorf(api.CodeNotFound, "there is nothing at %s", c.request().URL.Path)
}

func alive(c *call) error { return c.write(http.StatusOK, []byte(`{"status":"ok"}`)) }

func (s *server) ready(c *call) error {
	if err := s.backend.Ready(c.context()); err != nil {
		return err
	}
	return c.write(http.StatusOK, []byte(`{"status":"ready"}`))
}

// document serves fixed bytes.
func (s *server) document(contentType string, data []byte) func(*call) error {
	if len(data) == 0 {
		return notHere
	}
	return func(c *call) error { return c.echo.Blob(http.StatusOK, contentType, data) }
}

func toDashboard(c *call) error { return c.echo.Redirect(http.StatusTemporaryRedirect, "/ui/") }
