//go:build wasip1

// Command echo-go answers every request with the request's body. It is a reactor: main is never run, the
// host calls for each request.
package main

import (
	"io"

	cloudless "github.com/cloudless/cloudless/wasm-examples/lib/go"
)

func init() { cloudless.Handle(echo) }

// echo streams: a body larger than the guest's memory passes through one buffer. When the client is gone
// there is nobody to tell.
func echo(r *cloudless.Request, w *cloudless.Response) { _, _ = io.Copy(w, r) }

func main() {}
