//go:build wasip1

// Command echo-go answers every request with the request's body, by the interface cloudless:http/v1.
// It is a reactor: main is never run, the host calls handle for each request.
package main

import "unsafe"

//go:wasmimport cl body_read
func bodyRead(ptr *byte, limit int32) int32

//go:wasmimport cl body_write
func bodyWrite(ptr *byte, size int32) int32

// handle streams: a body larger than the guest's memory passes through the one buffer.
//
//go:wasmexport cl_handle
func handle() {
	buffer := make([]byte, 16<<10)
	for {
		n := bodyRead(unsafe.SliceData(buffer), int32(len(buffer)))
		if n <= 0 || !write(buffer[:n]) {
			return
		}
	}
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
