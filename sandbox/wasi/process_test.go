package wasi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (g *guest) strings(what string) []string {
	g.t.Helper()
	count, size := g.alloc(4), g.alloc(4)
	g.must(what+"_sizes_get", count, size)
	list, buf := g.alloc(int(4*g.u32(count))), g.alloc(int(g.u32(size)))
	g.must(what+"_get", list, buf)
	var all []string
	for i := range g.u32(count) {
		at := g.u32(list + 4*i)
		end := at + uint32(bytes.IndexByte(g.ram[at:], 0))
		all = append(all, string(g.ram[at:end]))
	}
	return all
}

func TestArgsAndEnviron(t *testing.T) {
	args, env := []string{"prog", "", "a b", "ü"}, []string{"A=1", "B="}
	g := newGuest(t, Config{Args: args, Env: env})
	if got := g.strings("args"); !slices.Equal(got, args) {
		t.Errorf("args %q", got)
	}
	if got := g.strings("environ"); !slices.Equal(got, env) {
		t.Errorf("environ %q", got)
	}
	if err := g.w.SetEnv([]string{"C=3"}); err != nil {
		t.Fatal(err)
	}
	if err := g.w.SetArgs(nil); err != nil {
		t.Fatal(err)
	}
	if got := g.strings("environ"); !slices.Equal(got, []string{"C=3"}) {
		t.Errorf("environ %q", got)
	}
	if got := g.strings("args"); got != nil {
		t.Errorf("args %q", got)
	}
	if g.w.SetEnv([]string{"D=\x00"}) == nil || g.w.SetArgs([]string{"\x00"}) == nil {
		t.Error("a NUL is taken")
	}
	for _, c := range []Config{{Args: []string{"\x00"}}, {Env: []string{"\x00"}}, {Mounts: []Mount{{Guest: "\x00"}}}} {
		if w, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
			_ = w.Close()
		}
	}
	if err := g.w.SetArgs([]string{strings.Repeat("x", maxStringBytes-1)}); err != nil {
		t.Errorf("the most that may be: %v", err)
	}
	if g.w.SetArgs([]string{strings.Repeat("x", maxStringBytes-2), ""}) != nil || g.w.SetArgs([]string{strings.Repeat("x", maxStringBytes)}) == nil {
		t.Error("the limit is elsewhere")
	}
	if err := g.w.SetArgs(nil); err != nil {
		t.Fatal(err)
	}
	at := g.alloc(4)
	for _, name := range []string{"environ_sizes_get", "environ_get", "args_sizes_get"} {
		g.fails(eFault, name, outside, at)
		g.fails(eFault, name, at, outside-1)
	}
	g.must("args_get", outside, outside) // there are none
}

func TestClocks(t *testing.T) {
	wall, mono := time.Unix(1, 999), 3*time.Second+1500*time.Nanosecond
	g := newGuest(t, Config{Wall: func() time.Time { return wall }, Mono: func() time.Duration { return mono }})
	at := g.alloc(8)
	for clock, want := range []uint64{1_000_000_000, 3_000_001_000} {
		g.must("clock_time_get", clock, 1, at)
		if got := g.u64(at); got != want {
			t.Errorf("clock %d says %d, want %d", clock, got, want)
		}
		g.must("clock_res_get", clock, at)
		if got := g.u64(at); got != uint64(DefaultResolution) {
			t.Errorf("the resolution is %d", got)
		}
	}
	for _, clock := range []uint32{2, 3, 4, 1<<32 - 1} {
		g.fails(eInval, "clock_time_get", clock, 0, at)
		g.fails(eInval, "clock_res_get", clock, at)
	}
	wall = time.Unix(-5, 0)
	g.must("clock_time_get", 0, 0, at)
	if got := g.u64(at); got != 0 {
		t.Errorf("before 1970 it is %d", got)
	}
}

func TestNoTwoReadingsOfTheMonotonicClockAreTheSame(t *testing.T) {
	mono := 1500 * time.Nanosecond
	g := newGuest(t, Config{Mono: func() time.Duration { return mono }})
	at := g.alloc(8)
	for _, step := range []struct {
		passes time.Duration
		want   uint64
	}{{0, 1000}, {0, 1001}, {499, 1002}, {1, 2000}, {0, 2001}, {-1500, 2002}, {2000, 2003}, {1000, 3000}} {
		mono += step.passes
		g.must("clock_time_get", clockMonotonic, 0, at)
		if got := g.u64(at); got != step.want {
			t.Errorf("at %v the clock says %d, want %d", mono, got, step.want)
		}
	}
}

func TestTheDefaultClocksRunAndDoNotBeginAtZero(t *testing.T) {
	g := newGuest(t, Config{})
	at := g.alloc(8)
	g.must("clock_time_get", clockMonotonic, 0, at)
	first := g.u64(at)
	if first < uint64(time.Second) {
		t.Errorf("the monotonic clock begins at %d", first)
	}
	g.must("clock_time_get", clockMonotonic, 0, at)
	if g.u64(at) <= first {
		t.Error("the monotonic clock stood still or went back")
	}
	g.must("clock_time_get", clockRealtime, 0, at)
	if got := time.Unix(0, int64(g.u64(at))); time.Since(got).Abs() > time.Hour {
		t.Errorf("the wall clock says %v", got)
	}
}

func TestRandom(t *testing.T) {
	g := newGuest(t, Config{})
	const n = chunkBytes + 100
	at := g.alloc(n)
	g.must("random_get", at, n)
	if bytes.Contains(g.ram[at:at+n], make([]byte, 32)) {
		t.Error("32 random bytes are zero")
	}
	g.fails(eFault, "random_get", outside-1, 2)
	g.must("random_get", outside, 0)
	g = newGuest(t, Config{Random: strings.NewReader("123")})
	g.must("random_get", at, 3)
	if got := string(g.ram[at : at+3]); got != "123" {
		t.Errorf("the random bytes are %q", got)
	}
	g.fails(eIo, "random_get", at, 1)
}

func TestExit(t *testing.T) {
	g := newGuest(t, Config{})
	for _, code := range []uint32{0, 33, 1<<32 - 1} {
		var exit *Exit
		if err, _ := panicOf(func() { g.call("proc_exit", code) }).(error); !errors.As(err, &exit) || exit.Code != code {
			t.Errorf("proc_exit(%d) panics with %v", code, err)
		}
	}
	for sig, want := range map[int]uint32{6: 134, 9: 137, 15: 143, 30: 158} {
		if exit, _ := panicOf(func() { g.call("proc_raise", sig) }).(*Exit); exit == nil || exit.Code != want {
			t.Errorf("signal %d: %v", sig, exit)
		}
	}
	for sig, want := range map[int]errno{0: success, 16: success, 17: success, 22: success, 27: success, 18: eNotsup, 21: eNotsup, 31: eInval} {
		g.fails(want, "proc_raise", sig)
	}
	g.must("sched_yield")
}

func TestStandardStreams(t *testing.T) {
	g := newGuest(t, Config{})
	var out, errs strings.Builder
	g.w.Bind(context.Background(), strings.NewReader("input"), &out, &errs)
	g.wantRead(0, 3, "inp")
	g.wantRead(0, 99, "ut")
	g.wantRead(0, 99, "")
	if n, e := g.write(1, "out"); n != 3 || e != success {
		t.Errorf("write: %d, errno %d", n, e)
	}
	g.write(2, "err")
	if out.String() != "out" || errs.String() != "err" {
		t.Errorf("stdout %q, stderr %q", &out, &errs)
	}
	if _, e := g.write(0, "x"); e != eBadf {
		t.Errorf("write to stdin: errno %d", e)
	}
	if _, e := g.read(1, 1); e != eBadf {
		t.Errorf("read from stdout: errno %d", e)
	}
	g.w.Bind(context.Background(), nil, nil, nil)
	g.wantRead(0, 99, "")
	if n, e := g.write(1, "nobody"); n != 6 || e != success {
		t.Errorf("write to nobody: %d, errno %d", n, e)
	}
	g.w.Bind(context.Background(), io.MultiReader(strings.NewReader("a"), brokenReader{}), brokenWriter{}, nil)
	g.wantRead(0, 1, "a")
	if _, e := g.read(0, 1); e != eIo {
		t.Errorf("a broken reader gives errno %d", e)
	}
	if _, e := g.write(1, "x"); e != ePipe {
		t.Errorf("a closed pipe gives errno %d", e)
	}
	g.fails(eNotsock, "sock_shutdown", 0, 1)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// slowReader gives what is sent, and ends when it is closed.
type slowReader chan string

func (r slowReader) Read(p []byte) (int, error) {
	s, ok := <-r
	if !ok {
		return 0, io.EOF
	}
	return copy(p, s), nil
}

func TestStdinThatDoesNotComeEndsWithTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := bubbleGuest(t, Config{})
		r := make(slowReader)
		gone := errors.New("the client is gone")
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, gone)
		defer cancel()
		g.w.Bind(ctx, r, nil, nil)
		g.w.Mark()
		err, _ := panicOf(func() { g.read(0, 1) }).(error)
		if !errors.Is(err, gone) {
			t.Errorf("the read ends with %v", err)
		}
		if g.w.Restore() {
			t.Error("restored though the reader has not returned")
		}
		close(r)
		synctest.Wait()
		if !g.w.Restore() {
			t.Error("not restored though it has")
		}
	})
}

func TestNonblockingStdin(t *testing.T) {
	g := newGuest(t, Config{})
	r := make(slowReader)
	defer close(r)
	g.w.Bind(context.Background(), r, nil, nil)
	g.must("fd_fdstat_set_flags", 0, int(flagNonblock))
	if _, e := g.read(0, 9); e != eAgain {
		t.Fatalf("nothing is there: errno %d", e)
	}
	r <- "text"
	g.must("fd_fdstat_set_flags", 0, 0)
	g.wantRead(0, 2, "te")
	g.must("fd_fdstat_set_flags", 0, int(flagNonblock))
	g.wantRead(0, 9, "xt")
	if _, e := g.read(0, 9); e != eAgain {
		t.Errorf("nothing is there: errno %d", e)
	}
}

// What is there is given, though the guest has room for more.
func TestABlockingReadDoesNotWaitForMore(t *testing.T) {
	g := newGuest(t, Config{})
	r := make(slowReader, 1)
	defer close(r)
	g.w.Bind(context.Background(), r, nil, nil)
	r <- strings.Repeat("x", aheadBytes)
	got, e := g.read(0, 2*aheadBytes)
	if len(got) != aheadBytes || e != success {
		t.Errorf("got %d bytes, errno %d", len(got), e)
	}
}
