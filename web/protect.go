package web

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/cloudless/cloudless/api"
)

const (
	policyAPI  = "default-src 'none'; frame-ancestors 'none'"
	policyPage = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// protect sets the headers that tell browsers what the answer may do, and refuses heads that are too
// large and writes that another site's page sends.
func (s *server) protect(next echo.HandlerFunc) echo.HandlerFunc {
	return func(ec echo.Context) error {
		r := ec.Request()
		setSecurityHeaders(ec.Response().Header(), r)
		if n := headBytes(r); n > api.MaxHeaderBytes {
			return api.Errorf(api.CodeTooLarge, "the request head is %d bytes, at most %d are allowed", n, api.MaxHeaderBytes)
		}
		if err := checkOrigin(r); err != nil {
			return err
		}
		return next(ec)
	}
}

func setSecurityHeaders(h http.Header, r *http.Request) {
	h.Set("Content-Security-Policy", policyAPI)
	h.Set("Cache-Control", "no-store")
	if strings.HasPrefix(r.URL.Path, "/ui/") {
		h.Set("Content-Security-Policy", policyPage)
		h.Set("Cache-Control", "no-cache")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// headBytes is the size of the request line and the header lines.
func headBytes(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v) + len(": \r\n")
		}
	}
	return n
}
