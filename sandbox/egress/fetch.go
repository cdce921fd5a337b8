package egress

import (
	"context"
	"io"
	"net/http"
)

// Bounds of what one call of a guest has under way.
const (
	MaxOpen      = 16        // fetches
	MaxBodyBytes = 256 << 20 // of one request's body, and of one response's
)

// Fetches are the requests that one call of a guest has under way, each under a handle from 1 on. They
// end with the call's context. A guest makes one call at a time, so there is no lock. Errors are of
// type *Error.
type Fetches struct {
	client *Client
	ctx    context.Context
	open   [MaxOpen]*fetch
}

// Fetches begins the table of a call that ends with ctx.
func (c *Client) Fetches(ctx context.Context) *Fetches { return &Fetches{client: c, ctx: ctx} }

// fetch is one request and its response. It is sent with the first byte of its body, or when its
// response is asked for.
type fetch struct {
	client  *Client
	ctx     context.Context
	cancel  context.CancelFunc
	name    string // for the log: without path and query, which may hold secrets
	request *http.Request
	length  int64          // of the body, as the guest announced it; -1 if it did not
	body    *io.PipeWriter // once a byte of it was written
	sent    int64
	begun   bool // it is on its way
	whole   bool // the guest has no more of the body

	answers  chan answer // one, once begun
	response *http.Response
	failed   *Error // there is no response, or no more of its body
	got      int64
}

type answer struct {
	response *http.Response
	err      error
}

// Write sends bytes of the request's body and returns when all are on their way.
func (f *Fetches) Write(handle int, p []byte) (int, error) {
	n, err := f.find(handle)
	if err != nil {
		return 0, err
	}
	sent, failed := n.write(p)
	return sent, n.tell(failed)
}

func (n *fetch) write(p []byte) (int, *Error) {
	end := n.sent + int64(len(p))
	switch {
	case n.whole:
		return 0, refuse(ErrnoClosed, "the request is complete, as its response was asked for")
	case end > MaxBodyBytes:
		return 0, refuse(ErrnoTooLarge, "the request's body is larger than %d bytes", MaxBodyBytes)
	case n.length >= 0 && end > n.length:
		return 0, refuse(ErrnoInvalid, "the request's body is longer than the %d bytes announced", n.length)
	case len(p) == 0:
		return 0, nil
	}
	if !n.begun {
		var body *io.PipeReader
		body, n.body = io.Pipe()
		context.AfterFunc(n.ctx, func() { _ = body.Close() }) // who sends it waits for the guest, not for the context
		n.begin(body, n.length)
	}
	sent, err := n.body.Write(p)
	n.sent += int64(sent)
	if err != nil {
		return 0, refuse(ErrnoClosed, "nobody takes more of the request's body; the response may say why")
	}
	return sent, nil
}

// begin sends the request in the background. Whoever reads the body holds none of it when a write has
// returned.
func (n *fetch) begin(body io.ReadCloser, length int64) {
	n.begun = true
	n.request.Body, n.request.ContentLength = body, length
	n.client.group.Go("fetch "+n.name, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, n.cancel)()
		response, err := n.client.transport.RoundTrip(n.request)
		n.answers <- answer{response, err}
		return nil
	})
}

// Head ends the request's body, waits for the response and tells its status and header. It may be
// asked again.
func (f *Fetches) Head(handle int) (status int, header http.Header, err error) {
	n, err := f.find(handle)
	if err != nil {
		return 0, nil, err
	}
	n.await()
	if n.response == nil {
		return 0, nil, n.tell(n.failed)
	}
	return n.response.StatusCode, n.response.Header, nil
}

// await ends the request and waits for its response, or for why there is none.
func (n *fetch) await() {
	if n.response != nil || n.failed != nil {
		return
	}
	n.whole = true
	if n.length > n.sent {
		n.failed = refuse(ErrnoInvalid, "%d bytes of a body were announced and %d written", n.length, n.sent)
		n.cancel()
		return
	}
	if n.body != nil {
		_ = n.body.Close() // it never fails
	}
	if !n.begun {
		n.begin(http.NoBody, 0)
	}
	select {
	case a := <-n.answers:
		n.settle(a)
	case <-n.ctx.Done():
		n.failed = refuse(ErrnoEnded, "the call that it belongs to has ended")
	}
}

func (n *fetch) settle(a answer) {
	switch {
	case a.err != nil:
		n.failed = explain(n.ctx, a.err, ErrnoProtocol)
	case a.response.StatusCode < http.StatusOK:
		n.failed = refuse(ErrnoProtocol, "the server switched to another protocol (status %d)", a.response.StatusCode)
		_ = a.response.Body.Close() // with it the connection
	default:
		n.response = a.response
	}
}

// Read reads from the response's body; io.EOF at its end. It waits for the response as Head does.
func (f *Fetches) Read(handle int, p []byte) (int, error) {
	n, err := f.find(handle)
	if err != nil {
		return 0, err
	}
	n.await()
	if n.failed != nil {
		return 0, n.tell(n.failed)
	}
	got := 0
	for got == 0 && err == nil && len(p) > 0 {
		got, err = n.response.Body.Read(p)
	}
	n.got += int64(got)
	switch {
	case n.got > MaxBodyBytes:
		n.failed = refuse(ErrnoTooLarge, "the response's body is larger than %d bytes", MaxBodyBytes)
	case got > 0, err == nil, err == io.EOF: // a body's end is never wrapped
		return got, err
	default:
		n.failed = explain(n.ctx, err, ErrnoReset)
	}
	return 0, n.tell(n.failed)
}

// Close gives a handle back and ends what is still under way.
func (f *Fetches) Close(handle int) error {
	n, err := f.find(handle)
	if err != nil {
		return err
	}
	f.open[handle-1] = nil
	n.cancel()
	if n.response != nil {
		_ = n.response.Body.Close() // nobody wants the rest
	}
	return nil
}

func (f *Fetches) find(handle int) (*fetch, error) {
	if handle < 1 || handle > MaxOpen || f.open[handle-1] == nil {
		return nil, refuse(ErrnoHandle, "%d is no open fetch", handle)
	}
	return f.open[handle-1], nil
}

// tell puts the request's name before what went wrong with it.
func (n *fetch) tell(e *Error) error {
	if e == nil {
		return nil
	}
	return refuse(e.Errno, "%s: %s", n.name, e.Reason)
}
