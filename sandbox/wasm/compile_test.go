package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// endless is a module that takes minutes to compile.
func endless() []byte { return bomb(1, 30, ifs(30_000, 30)) }

func jobOf(t testing.TB, code []byte) sandbox.Spec {
	spec := rubbish(t, code)
	spec.Wasm.Mode = api.ModeJob
	return spec
}

func TestACompileBombIsKilledAndItsNeighbourCompiles(t *testing.T) {
	// A child has a low priority: on a busy machine what takes it a second of CPU time may take minutes.
	small := limits{Memory: 128 << 20, CPU: time.Second, Wall: time.Hour, File: 16 << 20}
	cpu := "more than 1s of CPU time to compile"
	// One without room for what it needs mostly dies of that, and seldom spends its time on collecting.
	memory, patient := "to compile, the most that it may", func(l *limits) { l.CPU = 10 * time.Second }
	for _, test := range []struct {
		name   string
		module []byte
		change func(*limits)
		code   api.Code
		want   string
	}{
		{"conditions without end", endless(), func(l *limits) { l.Memory = compileMemory }, api.CodeInvalid, cpu},
		{"large jump tables", bomb(1, 1, branches(50, 19_999)), patient, api.CodeInvalid, memory},
		{"locals that meet in conditions", bomb(200, 5_000, append(ifs(199, 5_000), sum(5_000)...)), patient, api.CodeInvalid, memory},
		{"much code", bomb(20_000, 1, ifs(3, 1)), func(l *limits) { l.File, l.CPU, l.Memory = 1<<20, compileCPU, compileMemory }, api.CodeInvalid, "compiled code is larger than 1Mi"},
		{"all the time there is", endless(), func(l *limits) { l.CPU, l.Memory, l.Wall = compileCPU, compileMemory, 500*time.Millisecond }, api.CodeUnavailable, "not compiled after 500ms"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDriver(t)
			d.engine.compiler.limits = small
			if test.change != nil {
				test.change(&d.engine.compiler.limits)
			}
			err := d.Prepare(t.Context(), jobOf(t, test.module))
			if api.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v (%s), want one with %q", err, api.CodeOf(err), test.want)
			}
			d.engine.compiler.limits = small
			server, _, _ := serve(t, d, moduleSpec("hello", api.ModeHTTP))
			if status, body := get(t, server.URL); status != 200 {
				t.Errorf("the neighbour answers %d %s", status, body)
			}
		})
	}
}

// What only looks like a bomb compiles.
func TestLargeModulesCompile(t *testing.T) {
	d := newDriver(t)
	for name, code := range map[string][]byte{
		"many functions": bomb(20_000, 1, nil), "nested": bomb(1, 1_900, nest(998)), "many values alive": bomb(1, 5_000, pile(100_000)),
	} {
		if err := d.Prepare(t.Context(), jobOf(t, code)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A module that cannot be compiled costs a child once, not at each retry.
func TestARefusalIsRemembered(t *testing.T) {
	d, spec := newDriver(t), moduleSpec("unknown", api.ModeHTTP)
	first := d.Prepare(t.Context(), spec)
	d.engine.compiler.program = "/nonexistent"
	if second := d.Prepare(t.Context(), spec); first == nil || second != first {
		t.Errorf("first %v, then %v", first, second)
	}
	for i := range maxRefused {
		d.engine.found(strconv.Itoa(i), &making{done: make(chan struct{})}, nil, first)
	}
	if n := len(d.engine.refused); n != 1 {
		t.Errorf("%d refusals are remembered once there were more than %d", n, maxRefused)
	}
}

// children are the processes that a process has started to compile, and that still run.
func children(t testing.TB, parent int) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		line, _ := os.ReadFile(file)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if bytes.Contains(line, []byte(compileArg)) && statOf(pid)[4-3] == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// statOf are the fields of /proc/PID/stat from the third on, none if it is gone.
func statOf(pid int) []string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text), ") ")
	return append(strings.Fields(rest), make([]string, 50)...)
}

// bombing starts to compile endless in the background, and waits until its child does.
func bombing(t *testing.T, d *Driver) (child int, cancel func(), result chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	spec, result := jobOf(t, endless()), make(chan error, 1)
	go func() { result <- d.Prepare(ctx, spec) }()
	eventually(t, "a child that is confined", func() bool {
		pids := children(t, os.Getpid())
		if len(pids) != 1 {
			return false
		}
		child = pids[0]
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", child))
		return string(text) == "1000\n"
	})
	return child, cancel, result
}

func TestACompilingChildHasOnlyWhatItNeeds(t *testing.T) {
	t.Setenv("SECRET", "of the agent")
	open, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if _, err := syscall.Dup(int(open.Fd())); err != nil { // not closed on exec, as some library may leave one
		t.Fatal(err)
	}
	d := newDriver(t)
	child, cancel, result := bombing(t, d)
	proc := fmt.Sprintf("/proc/%d/", child)
	read := func(name string) string {
		text, err := os.ReadFile(proc + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if env := read("environ"); env != "" {
		t.Errorf("its environment is %q", env)
	}
	if stat := statOf(child); stat[5-3] != strconv.Itoa(child) || stat[6-3] != strconv.Itoa(child) {
		t.Errorf("its group is %s and its session %s, not its own, %d", stat[5-3], stat[6-3], child)
	}
	if !strings.Contains(read("status"), "NoNewPrivs:\t1\n") {
		t.Error("it could gain rights")
	}
	for _, line := range []string{"Max cpu time 60 65 seconds", "Max file size 536870912 536870912 bytes", "Max core file size 0 0 bytes", "Max open files 64 64 files"} {
		if !strings.Contains(strings.Join(strings.Fields(read("limits")), " "), line) {
			t.Errorf("it has no limit %q:\n%s", line, read("limits"))
		}
	}
	if strings.Contains(strings.Join(strings.Fields(read("limits")), " "), "Max address space unlimited") {
		t.Error("its memory has no limit")
	}
	descriptors, _ := filepath.Glob(proc + "fd/*")
	for _, fd := range descriptors {
		to, _ := os.Readlink(fd)
		n, _ := strconv.Atoi(filepath.Base(fd))
		if ofRuntime := strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/sys/fs/cgroup/"); n > 2 && !ofRuntime {
			t.Errorf("it has descriptor %d, %s", n, to)
		}
	}
	ours, _ := os.Readlink("/proc/self/ns/net")
	theirs, _ := os.Readlink(proc + "ns/net")
	if c := d.engine.compiler; c.ways[c.way.Load()] != 0 && ours == theirs {
		t.Error("it shares our network")
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("once cancelled: %v", err)
	}
	eventually(t, "the end of the child", func() bool { return len(children(t, os.Getpid())) == 0 })
}

// A large module, or a bomb, must not take the processors from what serves requests.
func TestAChildThatTakesLongGivesWay(t *testing.T) {
	child, _, _ := bombing(t, newDriver(t))
	proc := fmt.Sprintf("/proc/%d/", child)
	eventually(t, "that all its threads have a low priority", func() bool {
		threads, _ := filepath.Glob(proc + "task/*/stat")
		return len(threads) > 0 && !slices.ContainsFunc(threads, func(path string) bool {
			text, _ := os.ReadFile(path)
			_, rest, _ := strings.Cut(string(text), ") ")
			fields := strings.Fields(rest)
			return len(fields) > 16 && fields[19-3] != strconv.Itoa(compileNice)
		})
	})
	eventually(t, "that its session has one", func() bool {
		session, err := os.ReadFile(proc + "autogroup")
		return errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(string(session), fmt.Sprintf(" nice %d\n", compileNice)) // not every kernel has it
	})
}

// Where the kernel makes no namespaces, modules are compiled all the same, and that is told once.
func TestWithoutNamespacesModulesAreCompiledAndThatIsTold(t *testing.T) {
	d, log := newLoggedDriver(t, t.TempDir())
	const impossible = syscall.CLONE_NEWUSER | syscall.CLONE_FS
	d.engine.compiler.ways = []uintptr{impossible, impossible, 0}
	for _, name := range []string{"hello", "echo"} {
		if err := d.Prepare(t.Context(), moduleSpec(name, api.ModeHTTP)); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "without a network namespace"); n != 1 {
		t.Errorf("it is told %d times:\n%s", n, log)
	}
}

func TestAKilledChildFailsOneDeployOnly(t *testing.T) {
	d := newDriver(t)
	child, _, result := bombing(t, d)
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-result; api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("error is %v (%s)", err, api.CodeOf(err))
	}
	if len(d.engine.refused) != 0 {
		t.Error("the module is refused for ever")
	}
	start(t, d, moduleSpec("hello", api.ModeHTTP))
}

func TestThoseWhoWaitForACompilerAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCompiler(zerolog.Nop())
		for range cap(c.slots) {
			if err := c.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range maxWaiting {
			wg.Go(func() {
				if err := c.enter(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("who waits gets %v", err)
				}
			})
		}
		synctest.Wait()
		if err := c.enter(ctx); api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("one more gets %v", err)
		}
		cancel()
		wg.Wait()
		<-c.slots
		if err := c.enter(t.Context()); err != nil {
			t.Errorf("with room again: %v", err)
		}
	})
}

// compiled counts the children that a driver has run, by its log.
func compiled(log *logBuffer) int {
	return strings.Count(log.String(), "the compiler of a wasm module has ended")
}

func newLoggedDriver(t testing.TB, dir string) (*Driver, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	d, err := New(Config{CacheDir: dir, Log: zerolog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, log
}

func TestAllWhoWantAModuleShareOneChild(t *testing.T) {
	d, log := newLoggedDriver(t, t.TempDir())
	spec := jobOf(t, bomb(20_000, 1, nil))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if i == 0 {
				if err := d.Prepare(ctx, spec); err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("who gave up got %v", err)
				}
			} else if err := d.Prepare(t.Context(), spec); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all who wait", func() bool {
		d.engine.mu.Lock()
		defer d.engine.mu.Unlock()
		m := d.engine.making[spec.Digest]
		return m != nil && m.waiting == 20 || d.engine.known[spec.Digest] != nil
	})
	cancel()
	wg.Wait()
	if n := compiled(log); n != 1 {
		t.Errorf("%d children for one module", n)
	}
}

// TestMain runs this instead of the tests in a process that plays an agent.
func agentProcess(dir, module string) {
	d, err := New(Config{CacheDir: dir})
	if err == nil {
		err = d.Prepare(context.Background(), fileSpec(module, api.ModeJob))
	}
	fmt.Println(err)
}

const agentArg = "__play-agent"

func TestAnAgentThatIsKilledTakesItsCompilersAlong(t *testing.T) {
	dir, spec := t.TempDir(), jobOf(t, endless())
	agent := exec.Command(os.Args[0], agentArg, dir, spec.Artifact)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	eventually(t, "the agent's child", func() bool { pids = children(t, agent.Process.Pid); return len(pids) == 1 })
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	agent.Wait()
	eventually(t, "the end of the child", func() bool { return slices.Contains([]string{"", "Z"}, statOf(pids[0])[0]) })
	works := func() []string { left, _ := filepath.Glob(filepath.Join(dir, workPrefix+"*")); return left }
	before := works()
	d, _ := newLoggedDriver(t, dir)
	if after := works(); len(before) != 1 || len(after) != 1 || after[0] != d.engine.cache.work {
		t.Errorf("work folders were %v and are %v", before, after)
	}
}
