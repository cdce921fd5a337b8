package wasm

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// cgiEnv is the environment that CGI/1.1 (RFC 3875) and WAGI give a request. Fields become HTTP_*,
// but not Proxy, which programs would take for their own HTTP_PROXY, nor those with an underscore, which a
// client could have taken for the ingress's own X-Forwarded-For.
func cgiEnv(r *http.Request) map[string]string {
	host, port := hostPort(r)
	env := map[string]string{
		"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": "cloudless", "SCRIPT_NAME": "",
		"SERVER_PROTOCOL": r.Proto, "SERVER_NAME": host, "SERVER_PORT": port,
		"REQUEST_METHOD": r.Method, "PATH_INFO": r.URL.Path, "X_RAW_PATH_INFO": r.URL.EscapedPath(),
		"QUERY_STRING": r.URL.RawQuery, "CONTENT_TYPE": "", "CONTENT_LENGTH": "", "REMOTE_ADDR": peerIP(remoteAddr(r)),
		"X_FULL_URL": scheme(r) + "://" + r.Host + r.URL.RequestURI(), "X_MATCHED_ROUTE": "/...",
	}
	for _, f := range (&heads{}).guestFields(r) {
		name, value := strings.ToUpper(strings.ReplaceAll(f.name, "-", "_")), strings.Join(f.values, ", ")
		switch {
		case f.name == "Proxy", strings.Contains(f.name, "_"):
		case f.name == "Content-Length", f.name == "Content-Type":
			env[name] = value
		default:
			env["HTTP_"+name] = value
		}
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
	line int   // where the line of head begins that has no end yet
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
	head, body, ok := c.cutHead()
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

// cutHead splits what the guest wrote at the first empty line. Each line is looked at once, however small
// the pieces are in which it comes.
func (c *cgiResponse) cutHead() (head, body []byte, ok bool) {
	for {
		line, rest, ended := bytes.Cut(c.head[c.line:], []byte("\n"))
		switch {
		case !ended:
			return nil, nil, false
		case len(line) == 0, len(line) == 1 && line[0] == '\r':
			return c.head[:c.line], rest, true
		}
		c.line += len(line) + 1
	}
}

// parseCGI reads a CGI response's head. Status defaults to 200, with Location to 302.
func parseCGI(head []byte) (int, http.Header, error) {
	header := http.Header{}
	if err := addResponse(header, head); err != nil {
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
		var err error
		if status, err = strconv.Atoi(digits); err != nil || !validStatus(status) {
			return 0, nil, fmt.Errorf("%w: %.80q is not a status", errHead, text)
		}
	}
	header.Del("Status")
	keepEndToEnd(header)
	return status, header, nil
}

var errNoCGI = errors.New("the guest ended without a CGI head (Content-Type: …, then an empty line)")

// callWAGI has an instance's _start handle a request.
func (s *server) callWAGI(i *instance, x *exchange) (err, answer error) {
	out := &cgiResponse{x: x}
	env := cgiEnv(x.r)
	for name, value := range s.spec.Env {
		if _, taken := env[name]; !taken || strings.HasPrefix(name, "HTTP_") {
			env[name] = value
		}
	}
	if err := i.world.SetEnv(environ(env)); err != nil {
		return err, err
	}
	i.world.Bind(x, x.stdin(), out, i.err)
	err = i.call(x, i.entry)
	return err, wagiResult(x, out, err)
}

func wagiResult(x *exchange, out *cgiResponse, err error) error {
	if out.err != nil {
		return out.err
	}
	return ending(x, err, func() error { return errNoCGI })
}
