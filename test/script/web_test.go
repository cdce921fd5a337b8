package script

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// answer asks for a URL, by Host if one is given, and gives the status and the body.
func answer(method, url string, host []string, body io.Reader) (status string, text []byte, err error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return "", nil, err
	}
	if len(host) > 0 {
		req.Host = host[0]
	}
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return strconv.Itoa(resp.StatusCode), text, err
}

// fetch STATUS URL [HOST] gets a URL; the answer becomes stdout.
func cmdFetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fetch STATUS URL [HOST]")
	}
	status, text, err := answer(http.MethodGet, args[1], args[2:], nil)
	ts.Check(err)
	_, err = ts.Stdout().Write(text)
	ts.Check(err)
	if status != args[0] {
		ts.Fatalf("status %s, want %s", status, args[0])
	}
}

// send STATUS BYTES URL [HOST] puts so many bytes there.
func cmdSend(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: send STATUS BYTES URL [HOST]")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	status, text, err := answer(http.MethodPut, args[2], args[3:], bytes.NewReader(make([]byte, n)))
	ts.Check(err)
	if status != args[0] {
		ts.Fatalf("status %s, want %s: %s", status, args[0], text)
	}
}

// became STATUS TEXT URL [HOST] gets a URL until it answers so.
func cmdBecame(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: became STATUS TEXT URL [HOST]")
	}
	for end := time.Now().Add(patience); ; pause() {
		status, text, err := answer(http.MethodGet, args[2], args[3:], nil)
		if err == nil && status == args[0] && strings.TrimSpace(string(text)) == args[1] {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("not within %v: status %s, %q, %v", patience, status, text, err)
		}
	}
}

// visited N URL [HOST] gets a URL so many times, several at once; each must answer 200, and no two alike.
func cmdVisited(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: visited N URL [HOST]")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	answers := make([]string, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			status, text, err := answer(http.MethodGet, args[1], args[2:], nil)
			answers[i] = fmt.Sprintf("%s %s", status, text)
			if err != nil {
				answers[i] = err.Error()
			}
		})
	}
	group.Wait()
	seen := map[string]bool{}
	for _, a := range answers {
		if !strings.HasPrefix(a, "200 ") || seen[a] {
			ts.Fatalf("%q, told before: %v", a, seen[a])
		}
		seen[a] = true
	}
}
