//go:build wasip1

// Command hello-go answers every request with a greeting, by the interface cloudless:http/v1. It is a
// reactor: main is never run, the host calls handle for each request.
package main

import (
	"bytes"
	"os"
	"unsafe"
)

//go:wasmimport cl req_head
func reqHead(ptr *byte, limit int32) int32

//go:wasmimport cl resp_head
func respHead(status int32, ptr *byte, size int32) int32

//go:wasmimport cl body_write
func bodyWrite(ptr *byte, size int32) int32

//go:wasmimport cl log
func logLine(level int32, ptr *byte, size int32)

const levelInfo = 1

//go:wasmexport cl_handle
func handle() {
	line, _, _ := bytes.Cut(requestHead(), []byte("\n"))
	logLine(levelInfo, unsafe.SliceData(line), int32(len(line)))

	fields := []byte("content-type: text/plain\n")
	respHead(200, unsafe.SliceData(fields), int32(len(fields)))
	body := []byte("hello from Go " + os.Getenv("GREETING") + "\n")
	bodyWrite(unsafe.SliceData(body), int32(len(body)))
}

// requestHead is "METHOD URI" and the request's fields, a line each. req_head tells the whole length,
// so a second call gets what the first had no room for.
func requestHead() []byte {
	head := make([]byte, 2048)
	size := int(reqHead(unsafe.SliceData(head), int32(len(head))))
	if size > len(head) {
		head = make([]byte, size)
		reqHead(unsafe.SliceData(head), int32(size))
	}
	return head[:size]
}

func main() {}
