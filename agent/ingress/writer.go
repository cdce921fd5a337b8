package ingress

import (
	"bufio"
	"cmp"
	"net"
	"net/http"
	"time"

	"github.com/cloudless/cloudless/sandbox"
)

// clientStall is how long a client may read nothing of a response before it is cut off: a stuck one
// would hold its place here, and the replica, for ever.
const clientStall = 2 * time.Minute

// stallStep is how long a deadline stands before it is moved: setting one takes as long as writing a few
// hundred bytes into a buffer.
const stallStep = time.Second

// writer knows what was answered so far. http.ResponseController reaches through it.
type writer struct {
	http.ResponseWriter
	status   int // 0: nothing yet
	bytes    int64
	hijacked bool
	shared   bool      // the connection, with other requests: it is HTTP/2
	since    time.Time // when the request came
	allowed  time.Time // when the client was given its time last

	body  countedBody
	route *route        // nil if no workload has the host, and for a peer's request
	asked target        // the replica that was asked last
	cost  *sandbox.Cost // nil if nobody asks
}

// newWriter begins a response. What the connection's last one has left of its client's time, the server has ended.
func newWriter(rw http.ResponseWriter, r *http.Request) *writer {
	return &writer{ResponseWriter: rw, shared: r.ProtoMajor >= 2, since: time.Now()}
}

// end gives the client its time to take what is still to be flushed, and says how long the request took.
func (w *writer) end() time.Duration {
	now := time.Now()
	if !w.hijacked {
		w.allow(now)
	}
	return now.Sub(w.since)
}

// WriteHeader passes the status on; informational ones do not count as an answer and are sent at once, others
// with what follows. A 100 Continue is between us and the upstream.
func (w *writer) WriteHeader(status int) {
	if status == http.StatusContinue {
		return
	}
	if final := status >= 200 || status == http.StatusSwitchingProtocols; !final {
		w.allow(time.Now())
		defer w.rest()
	} else if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write counts the body's bytes.
func (w *writer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.allow(time.Now())
	defer w.rest()
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// allow gives the client clientStall to take what is written next, or at most stallStep less.
func (w *writer) allow(now time.Time) {
	if now.Sub(w.allowed) >= stallStep {
		w.allowed = now
		w.deadline(now.Add(clientStall))
	}
}

// rest takes back what is left of the client's time when it has taken what was written: on a shared connection a
// deadline ends its response even when nothing is to be written.
func (w *writer) rest() {
	if w.shared {
		w.allowed = time.Time{}
		w.deadline(w.allowed)
	}
}

func (w *writer) deadline(t time.Time) {
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(t) // a test's recorder has none
}

// Flush sends what is buffered, for handlers that look for an http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() }

// FlushError is Flush for http.ResponseController.
func (w *writer) FlushError() error {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.allow(time.Now())
	defer w.rest()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands the connection over, after which nothing else can be answered.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.hijacked = err == nil
	return conn, rw, err
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// begun tells whether it is too late to answer differently.
func (w *writer) begun() bool { return w.status != 0 || w.hijacked }

// code is the status that the client saw; 200 if nothing was written, as net/http has it.
func (w *writer) code() int { return cmp.Or(w.status, http.StatusOK) }
