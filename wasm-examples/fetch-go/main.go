//go:build wasip1

// Command fetch-go answers every request with what the URL in UPSTREAM answers, by the fetch functions
// of docs/GUEST-FETCH.md. Its manifest must allow the URL's host.
package main

import (
	"os"
	"strconv"
	"strings"
	"unsafe"
)

//go:wasmimport cl resp_head
func respHead(status int32, ptr *byte, size int32) int32

//go:wasmimport cl body_write
func bodyWrite(ptr *byte, size int32) int32

//go:wasmimport cl fetch_open
func fetchOpen(ptr *byte, size int32) int32

//go:wasmimport cl fetch_head
func fetchHead(handle int32, ptr *byte, limit int32) int32

//go:wasmimport cl fetch_read
func fetchRead(handle int32, ptr *byte, limit int32) int32

//go:wasmimport cl fetch_close
func fetchClose(handle int32) int32

const maxHead = 64 << 10 // of a response

// handle passes a response of any size through one buffer.
//
//go:wasmexport cl_handle
func handle() {
	request := []byte("GET " + os.Getenv("UPSTREAM") + "\nuser-agent: fetch-go\n")
	h := fetchOpen(unsafe.SliceData(request), int32(len(request)))
	if h < 0 {
		fail(h)
		return
	}
	defer fetchClose(h)
	buffer := make([]byte, maxHead)
	n := fetchHead(h, unsafe.SliceData(buffer), int32(len(buffer)))
	if n < 0 {
		fail(n)
		return
	}
	status, fields, _ := strings.Cut(string(buffer[:n]), "\n")
	code, _ := strconv.Atoi(status)
	respHead(int32(code), unsafe.StringData(fields), int32(len(fields)))
	for {
		n := fetchRead(h, unsafe.SliceData(buffer), int32(len(buffer)))
		if n <= 0 || !write(buffer[:n]) {
			return
		}
	}
}

// fail answers for an upstream that could not be reached; the workload's log says why.
func fail(errno int32) {
	respHead(502, nil, 0)
	write([]byte("fetch failed: errno " + strconv.Itoa(int(-errno)) + "\n"))
}

// write tells whether the client took all of p.
func write(p []byte) bool {
	for len(p) > 0 {
		n := bodyWrite(unsafe.SliceData(p), int32(len(p)))
		if n <= 0 {
			return false
		}
		p = p[n:]
	}
	return true
}

func main() {}
