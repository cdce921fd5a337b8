//go:build wasip1

// Package fetch makes HTTP requests to what the manifest's egress.allow names (docs/GUEST-FETCH.md). A
// module that uses it is refused where nothing is named there, so it is a package of its own.
package fetch

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cloudless/cloudless/wasm-examples/lib/go/head"
)

//go:wasmimport cl fetch_open
func fetchOpen(ptr *byte, size int32) int32

//go:wasmimport cl fetch_write
func fetchWrite(fetch int32, ptr *byte, size int32) int32

//go:wasmimport cl fetch_head
func fetchHead(fetch int32, ptr *byte, limit int32) int32

//go:wasmimport cl fetch_read
func fetchRead(fetch int32, ptr *byte, limit int32) int32

//go:wasmimport cl fetch_close
func fetchClose(fetch int32) int32

// Response is what came back. The body is read from it; who is done closes it.
type Response struct {
	Status int
	Header head.Fields
	fetch  int32
}

// Errno is the number that the host has told; the workload's log has the reason.
type Errno int

const errPipe Errno = 32

func (e Errno) Error() string {
	return fmt.Sprintf("errno %d", int(e))
}

// Do sends a request with "name: value\n" fields, and a body unless it is nil, and waits for the head of
// the response.
func Do(method, url, fields string, body io.Reader) (*Response, error) {
	text := method + " " + url + "\n" + fields
	f, err := result(fetchOpen(unsafe.StringData(text), int32(len(text))))
	if err != nil {
		return nil, err
	}
	r := &Response{fetch: int32(f)}
	if body != nil {
		_, err = io.Copy(writer(f), body)
	}
	if err == nil || err == errPipe { // the server has answered before it heard all
		err = r.readHead()
	}
	if err != nil {
		return nil, closed(r, err)
	}
	return r, nil
}

func closed(r *Response, err error) error {
	_ = r.Close() // err is what went wrong first
	return err
}

type writer int32

func (f writer) Write(p []byte) (int, error) {
	return result(fetchWrite(int32(f), unsafe.SliceData(p), int32(len(p))))
}

func (r *Response) readHead() error {
	text, size := head.Read(func(ptr *byte, limit int32) int32 { return fetchHead(r.fetch, ptr, limit) })
	if _, err := result(size); err != nil {
		return err
	}
	status, fields, _ := strings.Cut(text, "\n")
	r.Header = head.Fields(fields)
	var err error
	r.Status, err = strconv.Atoi(status)
	return err
}

// Read implements io.Reader.
func (r *Response) Read(p []byte) (int, error) {
	n, err := result(fetchRead(r.fetch, unsafe.SliceData(p), int32(len(p))))
	if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer.
func (r *Response) Close() error {
	_, err := result(fetchClose(r.fetch))
	return err
}

func result(n int32) (int, error) {
	if n < 0 {
		return 0, Errno(-n)
	}
	return int(n), nil
}
