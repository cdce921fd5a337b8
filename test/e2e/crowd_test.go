package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// What a coordinator may take for a crowd at its API: connections beyond its limit are closed, and one
// costs some 50 KB, twice that until the collector has run.
const (
	crowdConns  = 1024
	crowdMemory = 160 << 20
)

// Security 14: thousands of connections that say nothing, or begin heads that never end, leave the API
// answering, new callers and streams that stand; connections and memory are bounded; and those that
// only hold on are gone when their time is over.
func TestACrowdAtTheAPI(t *testing.T) {
	k := newCluster(t, 1, 0, nil)
	c := k.coords[0]
	tokens := follow(t, k, api.EventTokenCreated)
	tokens()
	before, _, err := c.Memory()
	if err != nil {
		t.Fatal(err)
	}
	files := c.openFiles()
	crowd := 2000
	if os.Getenv("CLOUDLESS_TEST_LONG") != "" {
		crowd = 10_000
	}
	gather(t, c, crowd)
	for range 20 {
		answersInTime(t, k)
	}
	after, _, err := c.Memory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d connections: memory %.0f MB, before %.0f MB; open files %d, before %d", crowd, after/1e6, before/1e6, c.openFiles(), files)
	if after-before > crowdMemory {
		t.Errorf("memory grew by %.0f MB, at most %d MB", (after-before)/1e6, int64(crowdMemory)/1e6)
	}
	if more := c.openFiles() - files; more > crowdConns+50 { // and some of its own
		t.Errorf("%d more files are open, at most %d connections", more, crowdConns)
	}
	tokens()
	eventually(t, "who only holds on is gone", func() bool { return c.openFiles()-files < 100 })
}

// follow begins a stream of events on one connection. What it gives makes a token and waits until the
// stream tells of it.
func follow(t *testing.T, k *cluster, typ string) func() {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(k.coords[0].dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", k.coords[0].addr+":7700", &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /v1/events?follow=true&type=%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", typ, strings.TrimSpace(string(token)))
	lines := bufio.NewScanner(conn)
	return func() {
		t.Helper()
		k.token(api.RoleViewer)
		conn.SetReadDeadline(time.Now().Add(patience))
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "data:") && strings.Contains(lines.Text(), typ) {
				return
			}
		}
		t.Errorf("the stream has ended: %v", lines.Err())
	}
}

// gather opens connections: every other one is silent, the rest begin a request.
func gather(t *testing.T, c *member, crowd int) {
	t.Helper()
	for i := range crowd {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.addr+":7700")
		cancel()
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		t.Cleanup(func() { conn.Close() })
		if i%2 == 0 {
			continue
		}
		conn.SetDeadline(time.Now().Add(patience))
		slow := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // an attacker does not check either
		if _, err := io.WriteString(slow, "GET /v1/nodes HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
}

// answersInTime asks on a new connection, and gives it the deadline that a user has patience for.
func answersInTime(t *testing.T, k *cluster) {
	t.Helper()
	fresh := k.dial(k.coords[0].url())
	defer fresh.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := fresh.Status(ctx, 0, 0); err != nil {
		t.Errorf("the API does not answer: %v", err)
	}
}

// openFiles counts them.
func (m *member) openFiles() int {
	m.t.Helper()
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", m.Pid()))
	if err != nil {
		m.t.Fatal(err)
	}
	return len(list)
}
