package wasm

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

var (
	errDeadline   = errors.New("the request took longer than its timeout")
	errClientGone = errors.New("the client is gone")
)

// exchange is one HTTP request in a guest.
//
// The guest's deadline runs until the response's head is sent; from then on each write that a reading
// client takes sets it anew, so that a long stream is not cut. When it ends, waiting reads and writes
// are woken through the connection's own deadlines.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	meter   *meter
	timeout time.Duration
	ctx     context.Context // ends at the deadline, or with the replica
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	head    []byte // of the request, made when first asked for

	mu       sync.Mutex
	answered bool // the head of the response is sent
	over     bool // the handler returns: the connection is the server's again
}

func newExchange(b *base, w http.ResponseWriter, r *http.Request, timeout time.Duration) *exchange {
	x := &exchange{w: w, r: r, control: http.NewResponseController(w), meter: &b.meter, timeout: timeout}
	_ = x.control.EnableFullDuplex() // or HTTP/1 would read the whole body before the first answer
	x.ctx, x.cancel = context.WithCancelCause(b.ctx)
	x.timer = time.AfterFunc(timeout, func() { x.cancel(errDeadline) })
	context.AfterFunc(x.ctx, x.interrupt)
	return x
}

// close ends the exchange; nothing touches the connection afterwards.
func (x *exchange) close() {
	x.mu.Lock()
	x.over = true
	x.mu.Unlock()
	x.timer.Stop()
	x.cancel(nil)
}

// interrupt wakes what waits for the client. The writing side is left open for the error's answer if
// no head was sent. Writers without deadlines (in tests) do not block.
func (x *exchange) interrupt() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return
	}
	past := time.Unix(1, 0)
	_ = x.control.SetReadDeadline(past)
	if x.answered {
		_ = x.control.SetWriteDeadline(past)
	}
}

// requestHead is the request's head as the cl interface has it.
func (x *exchange) requestHead() []byte {
	if x.head == nil {
		x.head = formatHead(x.r)
	}
	return x.head
}

// Read implements io.Reader: the request's body.
func (x *exchange) Read(p []byte) (n int, err error) {
	if x.r.Body == nil {
		return 0, io.EOF
	}
	if x.ctx.Err() != nil {
		return 0, context.Cause(x.ctx)
	}
	x.meter.wait(func() {
		for n == 0 && err == nil && len(p) > 0 {
			n, err = x.r.Body.Read(p)
		}
	})
	return n, err
}

// respond sends the response's head, unless that was done before.
func (x *exchange) respond(status int, header http.Header) {
	x.mu.Lock()
	if x.answered {
		x.mu.Unlock()
		return
	}
	x.answered = true
	x.mu.Unlock()
	to := x.w.Header()
	for name, values := range header {
		to[name] = values
	}
	x.w.WriteHeader(status)
}

// Write implements io.Writer: the response's body. The head is sent first, with status 200, if it
// was not.
func (x *exchange) Write(p []byte) (n int, err error) {
	if err := x.writable(); err != nil {
		return 0, err
	}
	x.respond(http.StatusOK, nil)
	x.meter.wait(func() { n, err = x.w.Write(p) })
	if errors.Is(err, http.ErrBodyNotAllowed) { // 204, 304: the body is dropped
		return len(p), nil
	}
	if err == nil {
		x.timer.Reset(x.timeout)
	}
	return n, err
}

func (x *exchange) writable() error {
	if x.r.Context().Err() != nil {
		return errClientGone
	}
	if x.ctx.Err() != nil {
		return context.Cause(x.ctx)
	}
	return nil
}

// flush sends what the server holds back.
func (x *exchange) flush() {
	if x.writable() != nil {
		return
	}
	x.respond(http.StatusOK, nil)
	x.meter.wait(func() { _ = x.control.Flush() }) // the next write tells of a client that is gone
}

// sent tells whether the response's head is out.
func (x *exchange) sent() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.answered
}
