package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/internal/run"
)

// Connections to one node. Requests over maxConns wait for one.
const (
	maxConns     = 16
	maxIdleConns = 8
	idleTime     = 90 * time.Second // less than the server keeps them
	wireBuffer   = 32 << 10
)

// A node that is busy is asked again this often, after what it says, at most busyPause.
const (
	busyTries = 3
	busyPause = 2 * time.Second
)

// Client reaches the chunks of nodes. Its fields are set before its first use; it is safe for
// concurrent use.
type Client struct {
	// Dial opens a connection to a node.
	Dial func(ctx context.Context, node, alpn string) (net.Conn, error)
	// Self is the id of this node, whose chunks are Local and are reached without a connection.
	Self  string
	Local *chunkstore.Chunks

	once sync.Once
	http *http.Transport
	mark string // of requests for upkeep; see lead.go
}

func (c *Client) transport() *http.Transport {
	c.once.Do(func() {
		if c.http != nil {
			return // it is another client's
		}
		c.http = &http.Transport{
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				node, _, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				return c.Dial(ctx, node, api.ALPNChunks)
			},
			MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: maxIdleConns, IdleConnTimeout: idleTime,
			WriteBufferSize: wireBuffer, ReadBufferSize: wireBuffer,
			DisableCompression: true,
		}
	})
	return c.http
}

// Close closes the connections that nobody uses.
func (c *Client) Close() { c.transport().CloseIdleConnections() }

// local tells whether a node is this one.
func (c *Client) local(node string) bool { return c.Local != nil && node == c.Self }

// call is one request to a node.
type call struct {
	node, method, path string
	query              url.Values
	header             http.Header
	body               func() (io.Reader, int64) // called for each try; nil: none
}

// do makes a call and gives answer what came of it, if that is no error. A node that says that it is
// busy is asked again.
func (c *Client) do(ctx context.Context, q call, answer func(*http.Response) error) error {
	for try := 1; ; try++ {
		pause, err := c.try(ctx, q, answer)
		if pause == 0 || try == busyTries {
			return err
		}
		if run.Sleep(ctx, pause) != nil {
			return err
		}
	}
}

// try is one try of do. It returns when nothing reads from the body any more.
func (c *Client) try(ctx context.Context, q call, answer func(*http.Response) error) (busy time.Duration, err error) {
	w := watch(ctx)
	defer w.stop()
	req, err := http.NewRequestWithContext(w.ctx, q.method, "http://"+q.node+":1"+q.path, nil)
	if err != nil {
		return 0, err
	}
	req.URL.RawQuery = q.query.Encode()
	for name, values := range q.header {
		req.Header[name] = values
	}
	if mark := c.upkeepMark(ctx); mark != "" {
		req.Header.Set(headerUpkeep, mark)
	}
	if q.body != nil {
		r, n := q.body()
		body := &sending{r: r, watch: w, closed: make(chan struct{})}
		req.Body, req.ContentLength = body, n
		defer func() { w.stop(); <-body.closed }()
	}
	resp, err := c.transport().RoundTrip(req)
	if err != nil {
		return 0, c.failed(w, q.node, err)
	}
	defer resp.Body.Close()
	resp.Body = receiving{resp.Body, w}
	if resp.StatusCode >= 300 {
		return pauseOf(resp), answeredError(resp)
	}
	w.progress()
	if err := answer(resp); err != nil {
		return 0, c.failed(w, q.node, err)
	}
	return 0, nil
}

// failed makes an error of the connection one of the node, and leaves others as they are.
func (c *Client) failed(w *watchdog, node string, err error) error {
	var known *api.Error
	switch {
	case w.stalled():
		return api.Errorf(api.CodeUnavailable, "node %s took longer than %v without any progress", node, stallTime)
	case w.ctx.Err() != nil:
		return api.Errorf(api.CodeTimeout, "the call to node %s was cut off: %w", node, context.Cause(w.ctx))
	case errors.As(err, &known):
		return err
	}
	return api.Errorf(api.CodeUnavailable, "the connection to node %s failed: %w", node, err)
}

// pauseOf is how long a busy node wants to be left alone.
func pauseOf(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds <= 0 || resp.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, busyPause)
}

// maxErrorBytes bounds the answer of a node that refuses.
const maxErrorBytes = 16 << 10

// answeredError is the error that a node answered, with the causes that callers look for.
func answeredError(resp *http.Response) error {
	var body api.ErrorBody
	err := json.NewDecoder(io.LimitReader(resp.Body, maxErrorBytes)).Decode(&body)
	if err != nil || body.Error == nil {
		return api.Errorf(api.CodeUnavailable, "the node answered %s", resp.Status)
	}
	e := body.Error
	switch {
	case resp.Header.Get(headerDamaged) != "":
		e.Err = chunkstore.ErrCorrupt
	case e.Code == api.CodeNoRoom:
		e.Err = chunkstore.ErrFull
	}
	return e
}
