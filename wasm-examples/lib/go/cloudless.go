//go:build wasip1

// Package cloudless is the guest's side of cloudless:http/v1 for Go. A module is a reactor:
//
//	func init() { cloudless.Handle(hello) }
//	func main() {}
//
//	func hello(r *cloudless.Request, w *cloudless.Response) { fmt.Fprintln(w, "hello") }
//
// A request starts from an image of the module after its init functions: what they have made is there for
// each request and costs it nothing. Whatever was random in there is the same in every request, too: Go's
// runtime has drawn the seeds of math/rand's functions and of its maps by then, and gives no way to draw
// them again. Take random numbers from Rand, which is seeded anew before each request, or from crypto/rand,
// which asks the host each time. Maps keep their seed: do not let a stranger fill one with so many keys
// that their order in memory matters, or choose isolation: fresh. The fields of a request are no map.
package cloudless

import (
	crypto "crypto/rand"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"unsafe"

	"github.com/cloudless/cloudless/wasm-examples/lib/go/head"
)

//go:wasmimport cl req_head
func reqHead(ptr *byte, limit int32) int32

//go:wasmimport cl body_read
func bodyRead(ptr *byte, limit int32) int32

//go:wasmimport cl resp_head
func respHead(status int32, ptr *byte, size int32) int32

//go:wasmimport cl body_write
func bodyWrite(ptr *byte, size int32) int32

//go:wasmimport cl flush
func flush()

//go:wasmimport cl log
func logLine(level int32, ptr *byte, size int32)

// Levels of Log.
const (
	Debug = iota
	Info
	Warn
	Error
)

// Log writes a line to the workload's log.
func Log(level int, line string) { logLine(int32(level), unsafe.StringData(line), int32(len(line))) }

var handler func(*Request, *Response)

// Handle sets what is called for each request.
func Handle(f func(*Request, *Response)) { handler = f }

//go:wasmexport cl_handle
func handle() { handler(readRequest(), &Response{Status: 200}) }

// Rand is seeded anew before each request.
var Rand = rand.New(source)

var source = rand.NewChaCha8(seed())

func seed() (s [32]byte) {
	_, _ = crypto.Read(s[:]) // it does not fail
	return s
}

//go:wasmexport cl_resume
func resume() { source.Seed(seed()) }

// Request is what the guest is asked. Its body is read from it.
type Request struct {
	Method, URI string
	Header      head.Fields
}

func readRequest() *Request {
	text, _ := head.Read(reqHead)
	line, fields, _ := strings.Cut(text, "\n")
	method, uri, _ := strings.Cut(line, " ")
	return &Request{method, uri, head.Fields(fields)}
}

// Read implements io.Reader.
func (*Request) Read(p []byte) (int, error) {
	switch n := bodyRead(unsafe.SliceData(p), int32(len(p))); {
	case n < 0:
		return 0, io.ErrUnexpectedEOF
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	default:
		return int(n), nil
	}
}

// Response is the guest's answer. The first write, or Flush, sends Status and Header.
type Response struct {
	Status int
	Header head.Fields
	sent   bool
}

var errGone = errors.New("the client is gone")

// Write implements io.Writer.
func (w *Response) Write(p []byte) (int, error) {
	w.send()
	for done := 0; done < len(p); {
		n := bodyWrite(unsafe.SliceData(p[done:]), int32(len(p)-done))
		if n <= 0 {
			return done, errGone
		}
		done += int(n)
	}
	return len(p), nil
}

// Flush sends what the host keeps.
func (w *Response) Flush() {
	w.send()
	flush()
}

func (w *Response) send() {
	if !w.sent {
		w.sent = true
		respHead(int32(w.Status), unsafe.StringData(string(w.Header)), int32(len(w.Header)))
	}
}
