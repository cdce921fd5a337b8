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
	errOver       = errors.New("the request has been answered")
)

// neverBlocks is how much of a response net/http keeps in its own buffer before it writes.
const neverBlocks = 2048

// exchange is one HTTP request in a guest, and the context of the guest's call: it ends at the
// deadline, with the client, or with the replica.
//
// The guest's deadline runs until the response's head is sent; from then on each write that a reading
// client takes sets it anew, so that a long stream is not cut.
//
// Most requests end before anything could block, so a timer is set only when somebody asks for Done;
// until then Err, which the guest's ticks ask, compares with the clock. From then on the end also
// wakes reads and writes, through the connection's own deadlines.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	replica context.Context
	clock   *stopwatch // of the instance that handles the request
	timeout time.Duration
	written int
	heads   *heads

	mu       sync.Mutex
	deadline time.Duration // since epoch
	done     chan struct{} // made when first asked for
	timer    *time.Timer   // with done
	unwatch  [2]func() bool
	cause    error
	answered bool  // the head of the response is sent
	over     bool  // the handler returns: the connection is the server's again
	reading  int   // reads of the body under way
	read     int64 // bytes of the body
	whole    bool  // the body was read to its end
	readers  sync.WaitGroup
}

var _ context.Context = (*exchange)(nil)

// spareExchanges keeps memory for the next one, with that of its heads.
var spareExchanges = sync.Pool{New: func() any { return &exchange{heads: newHeads()} }}

func newExchange(replica context.Context, w http.ResponseWriter, r *http.Request, timeout time.Duration) *exchange {
	x := spareExchanges.Get().(*exchange)
	x.w, x.r, x.replica, x.timeout, x.deadline = w, r, replica, timeout, sinceEpoch()+timeout
	x.heads.format(r)
	if r.Body != nil && r.Body != http.NoBody {
		_ = x.control().EnableFullDuplex() // or HTTP/1 would read the whole body before the first answer
	}
	return x
}

// close ends the exchange; nothing touches the connection afterwards. It tells whether the connection can
// be left to net/http; else it must be cut.
func (x *exchange) close() bool {
	x.mu.Lock()
	x.end(errOver)
	x.over = true
	x.mu.Unlock()
	x.readers.Wait()
	drained := x.drained()
	x.recycle()
	return drained
}

// recycle keeps the memory for another exchange, without anything of this one: of one that others may
// still hold, as the context of what they do or as a body, only that of its heads.
func (x *exchange) recycle() {
	h := x.heads
	x.heads = nil
	switch shared := x.done != nil || x.r.Body != nil && x.r.Body != http.NoBody; {
	case !h.clear():
	case shared:
		spareExchanges.Put(&exchange{heads: h})
	default:
		*x = exchange{heads: h}
		spareExchanges.Put(x)
	}
}

// What the guest has left of a body: how much is read of it, and for how long.
const (
	maxLeft  = 256 << 10 // as net/http has it
	leftTime = 5 * time.Second
)

// drained reads what the guest has left of the request's body, so that the connection can be used again.
// net/http does that itself, but in full duplex it then reads on beside the next request, whose beginning
// is lost (seen with Go 1.26). Of a long rest it reads nothing: it ends the connection.
func (x *exchange) drained() bool {
	if !x.unread() || x.long() {
		return true
	}
	if x.control().SetReadDeadline(time.Now().Add(leftTime)) != nil {
		return true // not a connection
	}
	if _, err := io.CopyN(io.Discard, x.r.Body, maxLeft+1); err != io.EOF {
		return false
	}
	return x.control().SetReadDeadline(time.Time{}) == nil
}

// unread tells whether something may be left of the request's body.
func (x *exchange) unread() bool {
	return x.r.Body != nil && x.r.Body != http.NoBody && !x.whole
}

// long tells whether more is left than is read of it when the guest is done.
func (x *exchange) long() bool {
	return x.r.ContentLength >= 0 && x.r.ContentLength-x.read > maxLeft
}

func (x *exchange) control() *http.ResponseController { return http.NewResponseController(x.w) }

// left is the time until the deadline; x.mu is held.
func (x *exchange) left() time.Duration { return x.deadline - sinceEpoch() }

// Deadline implements context.Context.
func (x *exchange) Deadline() (time.Time, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return time.Now().Add(x.left()), true
}

// Value implements context.Context: a guest's call carries what the request's does not.
func (x *exchange) Value(any) any { return nil }

// Err implements context.Context. Unlike most it tells the cause.
func (x *exchange) Err() error { return x.check(true) }

// check is Err, with a look at the clock or without: a guest's ticks look at it all the time.
func (x *exchange) check(clock bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.cause != nil:
	case x.replica.Err() != nil:
		x.end(errStopped)
	case x.r.Context().Err() != nil:
		x.end(errClientGone)
	case clock && x.left() <= 0:
		x.end(errDeadline)
	}
	return x.cause
}

// ended is why the exchange has ended, as far as anybody has been told: what comes later is not the cause
// of what a guest did before.
func (x *exchange) ended() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cause
}

// Done implements context.Context.
func (x *exchange) Done() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done != nil {
		return x.done
	}
	x.done = make(chan struct{})
	if x.cause != nil {
		close(x.done)
		return x.done
	}
	check := func() { _ = x.Err() }
	x.timer = time.AfterFunc(x.left(), func() {
		if x.Err() == nil { // the deadline was moved while the timer fired
			x.mu.Lock()
			defer x.mu.Unlock()
			x.setTimer()
		}
	})
	x.unwatch = [2]func() bool{context.AfterFunc(x.replica, check), context.AfterFunc(x.r.Context(), check)}
	return x.done
}

// end records why the exchange ended, and wakes what waits; x.mu is held. Only the first call counts.
// The writing side is left open for the error's answer if no head was sent. Writers without deadlines
// (in tests) do not block.
func (x *exchange) end(cause error) {
	if x.cause != nil {
		return
	}
	x.cause = cause
	if x.done == nil {
		return
	}
	close(x.done)
	x.timer.Stop()
	x.unwatch[0]()
	x.unwatch[1]()
	past := time.Unix(1, 0)
	if x.reading > 0 { // else net/http would take the waking of its own read for the client's going
		_ = x.control().SetReadDeadline(past)
	}
	if cause != errOver && x.answered {
		_ = x.control().SetWriteDeadline(past)
	}
}

// extend gives the guest the timeout anew, from its last lap on: it has waited or ticked a moment ago.
func (x *exchange) extend() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.deadline = x.clock.since + x.timeout
	x.setTimer()
}

// setTimer has the timer fire at the deadline; x.mu is held.
func (x *exchange) setTimer() {
	if x.timer != nil && x.cause == nil {
		x.timer.Reset(x.left())
	}
}

// requestHead is the request's head as the cl interface has it.
func (x *exchange) requestHead() []byte { return x.heads.text }

// Read implements io.Reader: the request's body. It is for the goroutine that calls the guest.
func (x *exchange) Read(p []byte) (n int, err error) {
	x.clock.wait(func() { n, err = x.stdin().Read(p) })
	return n, err
}

// stdin is the request's body for any goroutine.
func (x *exchange) stdin() io.Reader {
	if x.r.Body == nil || x.r.Body == http.NoBody {
		return eof{}
	}
	return body{x}
}

type eof struct{}

// Read implements io.Reader.
func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// body is a request's body while its exchange lasts.
type body struct{ *exchange }

// Read implements io.Reader.
func (b body) Read(p []byte) (n int, err error) {
	b.Done() // so that the end wakes the read
	if err := b.Err(); err != nil {
		return 0, err
	}
	if !b.enter() {
		return 0, http.ErrBodyReadAfterClose
	}
	defer func() { b.leave(n, err) }()
	for n == 0 && err == nil && len(p) > 0 {
		n, err = b.r.Body.Read(p)
	}
	return n, err
}

// enter lets a reader in unless the exchange is over; who is let in leaves.
func (x *exchange) enter() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over {
		x.reading++
		x.readers.Add(1)
	}
	return !x.over
}

func (x *exchange) leave(n int, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.read += int64(n)
	x.whole = x.whole || err == io.EOF
	x.reading--
	x.readers.Done()
}

// respond sends the response's head, unless that was done before. While much of the request's body may be
// left it says that the connection ends with the response: net/http says so by itself, but not in full
// duplex, and a client that has sent everything would send its next request into a closed connection.
func (x *exchange) respond(status int, header http.Header) {
	x.mu.Lock()
	if x.answered {
		x.mu.Unlock()
		return
	}
	x.answered = true
	ends := x.r.ProtoMajor == 1 && x.unread() && (x.long() || x.r.ContentLength < 0)
	x.mu.Unlock()
	to := x.w.Header()
	for name, values := range header {
		to[name] = values
	}
	if ends {
		to["Connection"] = []string{"close"}
	}
	x.w.WriteHeader(status)
}

// Write implements io.Writer: the response's body. The head is sent first, with status 200, if it
// was not.
func (x *exchange) Write(p []byte) (n int, err error) {
	blocks := x.written+len(p) > neverBlocks
	x.written += len(p)
	if blocks {
		x.Done() // so that the end wakes the write
	}
	if err := x.check(blocks); err != nil {
		return 0, err
	}
	x.respond(http.StatusOK, nil)
	if blocks {
		x.clock.wait(func() { n, err = x.w.Write(p) })
	} else {
		n, err = x.w.Write(p)
	}
	if errors.Is(err, http.ErrBodyNotAllowed) { // 204, 304: the body is dropped
		return len(p), nil
	}
	switch {
	case err == nil:
		x.extend()
	case !errors.Is(err, http.ErrContentLength): // that the guest announced
		x.lost()
	}
	return n, err
}

// lost says that the connection does not take what is written.
func (x *exchange) lost() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.end(errClientGone)
}

// flush sends what the server holds back.
func (x *exchange) flush() {
	x.Done()
	if x.Err() != nil {
		return
	}
	x.respond(http.StatusOK, nil)
	x.clock.wait(func() { _ = x.control().Flush() }) // the next write tells of a client that is gone
}

// sent tells whether the response's head is out.
func (x *exchange) sent() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.answered
}
