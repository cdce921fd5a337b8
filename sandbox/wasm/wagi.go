package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// cgiEnv is the environment that CGI/1.1 (RFC 3875) and WAGI give a request. Fields become HTTP_*,
// but not Proxy, which programs would take for their own HTTP_PROXY.
func cgiEnv(r *http.Request) map[string]string {
	header := guestHeader(r)
	host, port := hostPort(r)
	env := map[string]string{}
	for name, values := range header {
		switch name {
		case "Proxy", "Content-Length", "Content-Type":
		default:
			env["HTTP_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))] = strings.Join(values, ", ")
		}
	}
	fixed := map[string]string{
		"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": "cloudless", "SCRIPT_NAME": "",
		"SERVER_PROTOCOL": r.Proto, "SERVER_NAME": host, "SERVER_PORT": port,
		"REQUEST_METHOD": r.Method, "PATH_INFO": r.URL.Path, "X_RAW_PATH_INFO": r.URL.EscapedPath(),
		"QUERY_STRING": r.URL.RawQuery, "CONTENT_TYPE": header.Get("Content-Type"),
		"CONTENT_LENGTH": header.Get("Content-Length"), "REMOTE_ADDR": peerIP(remoteAddr(r)),
		"X_FULL_URL": scheme(r) + "://" + r.Host + r.URL.RequestURI(), "X_MATCHED_ROUTE": "/...",
	}
	for name, value := range fixed {
		env[name] = value
	}
	for name, value := range env { // NUL ends a variable in C
		env[name] = strings.ReplaceAll(value, "\x00", "")
	}
	return env
}

// scheme is how the client spoke to the ingress, which sets the field anew for each request.
func scheme(r *http.Request) string {
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		return "https"
	}
	return "http"
}

func hostPort(r *http.Request) (host, port string) {
	if host, port, err := net.SplitHostPort(r.Host); err == nil {
		return host, port
	}
	if scheme(r) == "https" {
		return r.Host, "443"
	}
	return r.Host, "80"
}

func peerIP(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// cgiResponse takes a guest's standard output: a CGI head, an empty line, the body. Each write of the
// body goes out at once, as CGI has no other way to tell the server to send.
type cgiResponse struct {
	x    *exchange
	head []byte
	err  error // the head is bad; nothing more is taken
}

// Write implements io.Writer.
func (c *cgiResponse) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.x.sent() {
		return c.body(p)
	}
	c.head = append(c.head, p...)
	head, body, ok := cutHead(c.head)
	if !ok {
		if len(c.head) > api.MaxHeaderBytes {
			c.err = fmt.Errorf("%w: no empty line in the first %d bytes", errHead, api.MaxHeaderBytes)
		}
		return len(p), c.err
	}
	status, header, err := parseCGI(head)
	if err != nil {
		c.err = err
		return 0, err
	}
	c.x.respond(status, header)
	if len(body) > 0 {
		if _, err := c.body(body); err != nil {
			return 0, err
		}
	}
	c.head = nil
	return len(p), nil
}

func (c *cgiResponse) body(p []byte) (int, error) {
	n, err := c.x.Write(p)
	if err == nil {
		c.x.flush()
	}
	return n, err
}

// cutHead splits what a guest wrote at the first empty line.
func cutHead(p []byte) (head, body []byte, ok bool) {
	for i := 0; i < len(p); {
		end := bytes.IndexByte(p[i:], '\n')
		if end < 0 {
			return nil, nil, false
		}
		if line := p[i : i+end]; len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			return p[:i], p[i+end+1:], true
		}
		i += end + 1
	}
	return nil, nil, false
}

// parseCGI reads a CGI response's head. Status defaults to 200, with Location to 302.
func parseCGI(head []byte) (int, http.Header, error) {
	header, err := parseFields(head)
	if err != nil {
		return 0, nil, err
	}
	if len(header) == 0 {
		return 0, nil, fmt.Errorf("%w: it has no field", errHead)
	}
	status := http.StatusOK
	if header.Get("Location") != "" {
		status = http.StatusFound
	}
	if text := header.Get("Status"); text != "" {
		digits, _, _ := strings.Cut(text, " ")
		if status, err = strconv.Atoi(digits); err != nil || !validStatus(status) {
			return 0, nil, fmt.Errorf("%w: %.80q is not a status", errHead, text)
		}
	}
	header.Del("Status")
	return status, endToEnd(header), nil
}

var errNoCGI = errors.New("the guest ended without a CGI head (Content-Type: …, then an empty line)")

// serveWAGI runs a fresh instance's _start for a request.
func (s *server) serveWAGI(i *instance, x *exchange) error {
	defer s.pool.drop(i)
	out := &cgiResponse{x: x}
	i.ctx = x.ctx
	config := s.config.WithStdin(x).WithStdout(out).WithStderr(i.err).WithNanosleep(s.sleeper(i.current))
	for name, value := range cgiEnv(x.r) {
		if _, taken := s.spec.Env[name]; !taken || !strings.HasPrefix(name, "HTTP_") {
			config = config.WithEnv(name, value)
		}
	}
	ctx := s.guestContext(x.ctx, x)
	s.meter.enter()
	defer s.meter.leave()
	module, err := s.instantiate(ctx, config, i.memory)
	if err != nil {
		return err
	}
	i.Module = module
	_, err = module.ExportedFunction(exportStart).Call(ctx)
	return wagiResult(x, out, err)
}

func wagiResult(x *exchange, out *cgiResponse, err error) error {
	if out.err != nil {
		return out.err
	}
	return ending(x, err, func() error { return errNoCGI })
}

// tryWAGI shows that the module can be linked, without running it.
func (s *server) tryWAGI(ctx context.Context) error {
	mem := s.memory.open(0)
	module, err := s.instantiate(s.guestContext(ctx, nil), s.config, mem)
	if err != nil {
		return err
	}
	return module.Close(ctx)
}
