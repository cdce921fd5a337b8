//go:build wasip1

// Command fetch-go answers every request with what the URL in UPSTREAM answers (docs/GUEST-FETCH.md). Its
// manifest must allow the URL's host.
package main

import (
	"fmt"
	"io"
	"os"

	cloudless "github.com/cloudless/cloudless/wasm-examples/lib/go"
	"github.com/cloudless/cloudless/wasm-examples/lib/go/fetch"
)

func init() { cloudless.Handle(pass) }

// pass streams: an answer of any size passes through one buffer.
func pass(_ *cloudless.Request, w *cloudless.Response) {
	got, err := fetch.Do("GET", os.Getenv("UPSTREAM"), "user-agent: fetch-go\n", nil)
	if err != nil { // the workload's log says why
		w.Status = 502
		fmt.Fprintln(w, "fetch failed:", err)
		return
	}
	defer got.Close()
	w.Status, w.Header = got.Status, got.Header
	if _, err := io.Copy(w, got); err != nil {
		cloudless.Log(cloudless.Warn, "the answer was cut short: "+err.Error())
	}
}

func main() {}
