package supervise

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
)

// screen is where a reader of logs looks.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.FieldsFunc(s.b.String(), func(r rune) bool { return r == '\n' })
}

func (n *node) logs(id string, opt api.LogOptions) []string {
	n.t.Helper()
	var out screen
	if err := n.Logs(n.t.Context(), id, opt, &out, func() {}); err != nil {
		n.t.Fatalf("Logs: %v", err)
	}
	return out.lines()
}

// talker runs a wasm replica that says what the test sends it and ends when the channel is closed.
func talker(t *testing.T, spec api.WorkloadSpec) (*node, chan string) {
	t.Helper()
	say := make(chan string)
	n := newNode(t, wasmDriver(fake.Script{Main: func(g fake.Guest) sandbox.Exit {
		for {
			select {
			case s, ok := <-say:
				if !ok {
					return sandbox.Exit{}
				}
				if s == "crash" {
					return sandbox.Exit{Code: 1}
				}
				fmt.Fprint(g.Spec.Log, s)
			case <-g.Term:
				return sandbox.Exit{}
			}
		}
	}}))
	n.run("r-1", api.VariantWasm, spec)
	synctest.Wait()
	return n, say
}

func TestLogsSelectLines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, say := talker(t, wasm(nil))
		same(t, "before the first line", 0, len(n.logs("r-1", api.LogOptions{Tail: -1})))
		say <- "one\ntwo\n"
		after(time.Minute)
		mid := time.Now()
		say <- "three\nfo"
		say <- "ur\n"
		synctest.Wait()
		same(t, "all", []string{"one", "two", "three", "four"}, n.logs("r-1", api.LogOptions{Tail: -1}))
		same(t, "tail", []string{"three", "four"}, n.logs("r-1", api.LogOptions{Tail: 2}))
		same(t, "tail of more than there is", 4, len(n.logs("r-1", api.LogOptions{Tail: 9})))
		same(t, "tail 0", 0, len(n.logs("r-1", api.LogOptions{Tail: 0})))
		same(t, "since", []string{"three", "four"}, n.logs("r-1", api.LogOptions{Tail: -1, Since: mid}))
		same(t, "since and tail", []string{"four"}, n.logs("r-1", api.LogOptions{Tail: 1, Since: mid}))
		stamp := mid.UTC().Format(time.RFC3339Nano)
		same(t, "timestamps", []string{stamp + " three", stamp + " four"}, n.logs("r-1", api.LogOptions{Tail: 2, Timestamps: true}))
		err := n.Logs(t.Context(), "r-9", api.LogOptions{}, &screen{}, func() {})
		same(t, "of the unknown", api.CodeNotFound, api.CodeOf(err))
		n.close(StopKill)
	})
}

func TestPreviousLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, say := talker(t, wasm(nil))
		err := n.Logs(t.Context(), "r-1", api.LogOptions{Previous: true, Tail: -1}, &screen{}, func() {})
		same(t, "without a restart", api.CodeNotFound, api.CodeOf(err))
		for i := range 3 {
			say <- fmt.Sprintf("attempt %d", i) // no end of line: kept all the same
			say <- "crash"
			after(5 * time.Second)
		}
		say <- "now\n"
		synctest.Wait()
		same(t, "current", []string{"now"}, n.logs("r-1", api.LogOptions{Tail: -1}))
		same(t, "previous", []string{"attempt 2"}, n.logs("r-1", api.LogOptions{Tail: -1, Previous: true}))
		files, err := filepath.Glob(filepath.Join(n.dir, "r-1", "*"))
		same(t, "files kept", []any{2, nil}, []any{len(files), err})
		n.close(StopKill)
	})
}

// A follower sees lines as they come, over a crash, and leaves with the replica's end.
func TestFollow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, say := talker(t, wasm(policy(api.RestartOnFailure)))
		say <- "old\nlast\n"
		synctest.Wait()
		var out screen
		g := run.New(t.Context())
		g.Go("follower", func(ctx context.Context) error {
			return n.Logs(ctx, "r-1", api.LogOptions{Follow: true, Tail: 1}, &out, func() {})
		})
		after(time.Second)
		same(t, "at first", []string{"last"}, out.lines())
		say <- "new\nhalf"
		after(time.Second)
		same(t, "half a line waits", []string{"last", "new"}, out.lines())
		say <- " done\n"
		after(time.Second)
		say <- "crash"
		after(5 * time.Second)
		say <- "again\n"
		after(time.Second)
		close(say)
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		same(t, "all", []string{"last", "new", "half done", "again"}, out.lines())
		n.close(StopKill)
	})
}

func TestFollowEndsWithItsReader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, _ := talker(t, wasm(nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := n.Logs(ctx, "r-1", api.LogOptions{Follow: true, Tail: -1}, &screen{}, func() {}); err != nil {
			t.Error(err)
		}
		n.close(StopKill)
	})
}

// The disk that a replica's log takes is bounded; a follower misses nothing over a rotation.
func TestRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, say := talker(t, wasm(nil))
		var out screen
		g := run.New(t.Context())
		g.Go("follower", func(ctx context.Context) error {
			return n.Logs(ctx, "r-1", api.LogOptions{Follow: true, Tail: -1}, &out, func() {})
		})
		const perSecond = 40
		text := strings.Repeat("x", api.MaxLogLineBytes-10)
		total := (api.LogFilesKept + 2) * api.LogFileBytes / len(text)
		for i := range total {
			say <- fmt.Sprintf("%05d %s\n", i, text)
			after(time.Second / perSecond)
		}
		after(time.Second)
		same(t, "followed", total, len(out.lines()))
		kept := n.logs("r-1", api.LogOptions{Tail: -1})
		if len(kept) >= total || len(kept) < api.LogFilesKept*api.LogFileBytes/api.MaxLogLineBytes {
			t.Errorf("%d of %d lines kept", len(kept), total)
		}
		for i, line := range kept {
			if want := fmt.Sprintf("%05d", total-len(kept)+i); !strings.HasPrefix(line, want) {
				t.Fatalf("line %d begins with %q, want %s", i, line[:5], want)
			}
		}
		files, _ := filepath.Glob(filepath.Join(n.dir, "r-1", "*"))
		same(t, "files", api.LogFilesKept+1, len(files))
		for _, f := range files {
			if info, err := os.Stat(f); err != nil || info.Size() > api.LogFileBytes {
				t.Errorf("%s has %d bytes, %v", f, info.Size(), err)
			}
		}
		n.close(StopKill)
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestLongLinesAreCut(t *testing.T) {
	for _, length := range []int{api.MaxLogLineBytes - 1, api.MaxLogLineBytes, api.MaxLogLineBytes + 1, 10 * api.MaxLogLineBytes} {
		bubble(t, func(t *testing.T) {
			n, say := talker(t, wasm(nil))
			say <- strings.Repeat("x", length) + "\nnext\n"
			synctest.Wait()
			lines := n.logs("r-1", api.LogOptions{Tail: -1})
			same(t, "lines", 2, len(lines))
			same(t, "length", min(length, api.MaxLogLineBytes), len(lines[0]))
			n.close(StopKill)
		})
	}
}

// A container's runtime writes its log as it is: endless lines are cut for who reads them, other bytes
// pass, and a time of the container's own stays in its line.
func TestAnyContainerLogCanBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, fake.New(fake.Script{}))
		n.run("r-1", api.VariantContainer, container(nil))
		synctest.Wait()
		old, late := "2026-01-01T00:00:00Z old", "2026-06-01T00:00:00Z late"
		binary := "\x00\xff\x1b[31m\r"
		text := strings.Join([]string{old, strings.Repeat("x", 1<<20), binary, late, "last", ""}, "\n")
		if err := os.WriteFile(filepath.Join(n.dir, "r-1", "0.log"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		same(t, "all", []string{old, strings.Repeat("x", maxStored), binary, late, "last"}, n.logs("r-1", api.LogOptions{Tail: -1}))
		same(t, "tail", []string{late, "last"}, n.logs("r-1", api.LogOptions{Tail: 2}))
		same(t, "since", []string{binary, late, "last"}, n.logs("r-1", api.LogOptions{Tail: 4, Since: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)})[1:])
		n.close(StopKill)
	})
}

func TestOutputOverTheRateIsDroppedAndTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n, say := talker(t, wasm(nil))
		line := strings.Repeat("x", 999) + "\n"
		say <- strings.Repeat(line, 1500)
		after(time.Second)
		say <- "later\n"
		synctest.Wait()
		lines := n.logs("r-1", api.LogOptions{Tail: -1})
		same(t, "lines", 1002, len(lines))
		same(t, "end", []string{"[cloudless] 500 lines dropped: more than 1000000 bytes a second", "later"}, lines[1000:])
		n.close(StopKill)
	})
}

// A container's runtime holds the file open itself; it is bounded all the same.
func TestContainerLogIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, fake.New(fake.Script{Adoptable: true}))
		n.run("r-1", api.VariantContainer, container(nil))
		synctest.Wait()
		path := filepath.Join(n.dir, "r-1", "0.log")
		shim, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer shim.Close()
		var out screen
		g := run.New(t.Context())
		g.Go("follower", func(ctx context.Context) error {
			return n.Logs(ctx, "r-1", api.LogOptions{Follow: true, Tail: -1}, &out, func() {})
		})
		text := strings.Repeat("y", 1000)
		total := 0
		after(followEvery / 2) // write between two looks, well before the rotation
		for range 12 {
			for range 1000 {
				fmt.Fprintf(shim, "%05d %s\n", total, text)
				total++
			}
			after(rotateEvery)
		}
		same(t, "followed", total, len(out.lines()))
		var held int64
		files, _ := filepath.Glob(path + "*")
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			held += info.Size()
		}
		if held == 0 || held > (api.LogFilesKept+1)*(api.LogFileBytes+(1<<20)) {
			t.Errorf("%d bytes held in %d files", held, len(files))
		}
		tail := n.logs("r-1", api.LogOptions{Tail: 1})
		if !strings.HasPrefix(tail[0], fmt.Sprintf("%05d ", total-1)) {
			t.Errorf("tail begins with %q", tail[0][:6])
		}
		// After a restart of the agent the adopted container's log goes on.
		n.close(StopRestart)
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		n.start(n.cfg.Drivers[api.VariantContainer])
		n.Resume(t.Context(), n.ledger.all())
		synctest.Wait()
		same(t, "tail after the agent's restart", tail, n.logs("r-1", api.LogOptions{Tail: 1}))
		n.close(StopKill)
	})
}
