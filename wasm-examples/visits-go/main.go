//go:build wasip1

// Command visits-go counts its visits in a bucket, by compare-and-set: however many replicas on however many
// nodes count at the same time, no visit is lost (docs/GUEST-STORAGE.md).
package main

import (
	"fmt"
	"strconv"

	cloudless "github.com/cloudless/cloudless/wasm-examples/lib/go"
	"github.com/cloudless/cloudless/wasm-examples/lib/go/buckets"
)

const sessions buckets.Bucket = "sessions"

func init() { cloudless.Handle(visit) }

func visit(_ *cloudless.Request, w *cloudless.Response) {
	var visits int
	err := sessions.Update("visits", func(old []byte) []byte {
		before, _ := strconv.Atoi(string(old)) // nothing is 0
		visits = before + 1
		return strconv.AppendInt(nil, int64(visits), 10)
	})
	if err != nil { // the workload's log says why
		w.Status = 503
		fmt.Fprintln(w, "not counted:", err)
		return
	}
	fmt.Fprintln(w, visits)
}

func main() {}
