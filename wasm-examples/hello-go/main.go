//go:build wasip1

// Command hello-go answers every request with a greeting, /random with a random number. It is a reactor:
// main is never run, the host calls for each request.
package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	cloudless "github.com/cloudless/cloudless/wasm-examples/lib/go"
)

// What init functions and variables make is in the image that each request starts from.
var greeting = "hello from Go " + os.Getenv("GREETING") + "\n"

func init() { cloudless.Handle(hello) }

func hello(r *cloudless.Request, w *cloudless.Response) {
	cloudless.Log(cloudless.Info, r.Method+" "+r.URI)
	w.Header.Set("Content-Type", "text/plain")
	switch r.URI {
	case "/random":
		fmt.Fprintln(w, cloudless.Rand.Uint64())
	case "/same": // this generator was seeded before the image was taken
		fmt.Fprintln(w, rand.Uint64())
	default:
		io.WriteString(w, greeting)
	}
}

func main() {}
