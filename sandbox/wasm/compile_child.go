package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox/rewrite"
)

// compileArg is the first argument of a process of this program that is to compile one module, and
// nothing else. The second is its order. The module comes on standard input, a verdict goes to
// standard output.
const compileArg = "__compile-module"

// init turns a process that was started to compile into a compiler, before anything else of the
// program runs. A program that links this package cannot forget to, tests included: one that did would
// start itself again and again.
func init() {
	if len(os.Args) == 3 && os.Args[1] == compileArg {
		os.Exit(compileMain(os.Args[2], os.Stdin, os.Stdout))
	}
}

// order is what a compiling child is told.
type order struct {
	Dir    string // where what it makes goes; empty, and nobody else's
	Digest string // of the module
	Limits limits
}

// limits bound a compiling child.
type limits struct {
	Memory int64         // bytes of address space beyond what Go takes at its start
	CPU    time.Duration // in whole seconds
	Wall   time.Duration
	File   int64 // bytes of each file that it writes
}

// What a module may cost to compile. A Go program with net/http (9 MB) takes some 10 s of CPU and
// 300 MB on the machines that this was measured on.
const (
	compileMemory = 1 << 30
	compileCPU    = 60 * time.Second
	compileWall   = 120 * time.Second
	compileFile   = 512 << 20

	compileDescriptors = 64                     // standard streams, a few of Go's own, one or two files
	compileThreads     = 2                      // that compile, each another function
	compileGarbage     = 32 << 20               // bytes
	compilePatience    = 200 * time.Millisecond // of CPU time, before what serves requests goes first
	compileNice        = 10
	autogroupEvery     = 100 * time.Millisecond // the kernel takes no more such changes from users
	compileGrace       = 5                      // seconds of CPU time after the limit in which to say so

	exitCPU = 128 + int(syscall.SIGXCPU) // the exit code for that
)

func defaultLimits() limits {
	return limits{Memory: compileMemory, CPU: compileCPU, Wall: compileWall, File: compileFile}
}

// verdict is a child's last word. No error means that everything is in its folder.
type verdict struct {
	Error *api.Error `json:"error,omitempty"`
}

func compileMain(text string, module io.Reader, out io.Writer) int {
	var o order
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		err = confine(o.Limits)
	}
	if err == nil {
		err = o.carryOut(module)
	}
	var v verdict
	if err != nil {
		v.Error = verdictOf(err, o.Limits)
	}
	if json.NewEncoder(out).Encode(v) != nil {
		return 1
	}
	return 0
}

// verdictOf is an error as it can be told to another process, with a code for what cannot be written.
func verdictOf(err error, l limits) *api.Error {
	var e *api.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, syscall.EFBIG):
		return invalid("the module's compiled code is larger than %s, the most that it may be", api.Bytes(l.File)).
			WithHint("leave out what it does not need, or make several modules of it")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return api.Errorf(api.CodeNoRoom, "there is no room on the node's disk for compiled code").WithHint("free some space; it is tried again")
	}
	return api.Errorf(api.CodeInternal, "compile the module: %v", err)
}

// confine gives up, for good, all that compiling does not need. What only a parent can take away is
// gone already (see compiler.command).
func confine(l limits) error {
	reserved, err := addressSpace()
	if err != nil {
		return err
	}
	err = errors.Join(
		lower(syscall.RLIMIT_AS, uint64(reserved+l.Memory), 0),
		lower(syscall.RLIMIT_CPU, uint64(l.CPU/time.Second), compileGrace),
		lower(syscall.RLIMIT_FSIZE, uint64(l.File), 0),
		lower(syscall.RLIMIT_NOFILE, compileDescriptors, 0),
		lower(syscall.RLIMIT_CORE, 0, 0),
	)
	if err != nil {
		return fmt.Errorf("limit what compiling may use: %w", err)
	}
	own := run.New(context.Background()) // for as long as the process
	own.Go("end at the CPU limit", exitAtCPULimit)
	own.Go("give way", giveWay)
	// Should the machine run out of memory all the same, this process goes first. It may be forbidden to
	// say so.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	debug.SetMemoryLimit(l.Memory / 4 * 3) // collect often rather than die
	collectLate()
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), compileThreads))
	return nil
}

// lower sets a limit, and a hard one so much above it. What this process has been given stays its bound.
func lower(resource int, soft, grace uint64) error {
	var given syscall.Rlimit
	if err := syscall.Getrlimit(resource, &given); err != nil {
		return err
	}
	return syscall.Setrlimit(resource, &syscall.Rlimit{Cur: min(soft, given.Max), Max: min(soft+grace, given.Max)})
}

// collectLate puts the first garbage collection off until compileGarbage has been allocated. That is more
// than a small module takes, and what is not collected by then ends with the process. After it all is as
// usual.
func collectLate() {
	const usual, heapAtLeast = 100, 4 << 20 // Go's own: GOGC, and the heap of the first collection with it
	debug.SetGCPercent(usual * compileGarbage / heapAtLeast)
	runtime.AddCleanup(new([64]byte), func(percent int) { debug.SetGCPercent(percent) }, usual)
}

// exitAtCPULimit lets this process say which limit ended it. If it does not come to that, the hard limit
// kills it.
func exitAtCPULimit(context.Context) error {
	limit := make(chan os.Signal, 1)
	signal.Notify(limit, syscall.SIGXCPU)
	<-limit
	os.Exit(exitCPU)
	return nil
}

// giveWay lowers the priority of this process once it has had compilePatience. A small module is ready by
// then, and whoever deployed it waits for it; on a busy machine it would wait many times as long.
func giveWay(ctx context.Context) error {
	for {
		var used syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
			return err
		}
		left := compilePatience - time.Duration(used.Utime.Nano()+used.Stime.Nano())
		if left <= 0 {
			return behindOthers(ctx)
		}
		if err := run.Sleep(ctx, left); err != nil {
			return err
		}
	}
}

// behindOthers lowers the priority of all threads, which are a process group of their own. Where the kernel
// shares processors out among sessions first, that counts within the session only, whose own priority is a
// file that not every kernel has.
func behindOthers(ctx context.Context) error {
	if err := unix.Setpriority(unix.PRIO_PGRP, 0, compileNice); err != nil {
		return err
	}
	for errors.Is(os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(compileNice)), 0), unix.EAGAIN) {
		if err := run.Sleep(ctx, autogroupEvery); err != nil {
			return err
		}
	}
	return nil
}

// carryOut makes everything of a cache entry: the rewritten module, its code, its description.
func (o order) carryOut(r io.Reader) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = invalid("the compiler cannot cope with this module: %v", p).WithHint("it is damaged, or it has found a fault of the compiler")
		}
	}()
	code, err := readModule(r)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(code); o.Digest != "sha256:"+hex.EncodeToString(sum[:]) {
		return api.Errorf(api.CodeUnavailable, "the module's file is not the one that was asked for: its digest is not %s", o.Digest).WithHint("it is fetched anew")
	}
	if err := checkHeader(code); err != nil {
		return err
	}
	ctx := experimental.WithCompilationWorkers(context.Background(), runtime.GOMAXPROCS(0)) // see confine
	rt, cache, err := newRuntime(ctx, o.Dir)
	if err != nil {
		return err
	}
	metered, err := meterCode(code, hostFunctionsOf(rt))
	if err != nil {
		return err
	}
	compiled, err := rt.CompileModule(ctx, metered.Module)
	if err != nil {
		return compileError(err)
	}
	err = o.keep(metered, compiled)
	return errors.Join(err, compiled.Close(ctx), rt.Close(ctx), cache.Close(ctx))
}

// keep writes what was made. wazero has written the code.
func (o order) keep(metered *rewrite.Output, compiled wazero.CompiledModule) error {
	d := describe(metered, compiled)
	d.Digest, d.Module.Bytes, d.Module.Sum = o.Digest, int64(len(metered.Module)), sumOf(metered.Module)
	if err := os.WriteFile(filepath.Join(o.Dir, moduleFile), metered.Module, 0o600); err != nil {
		return err
	}
	code, err := engineFile(o.Dir)
	if err != nil {
		return err
	}
	if code != "" { // the interpreter has none
		if err := d.addCode(o.Dir, code); err != nil {
			return err
		}
	}
	text, err := d.encode()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.Dir, descriptionFile), text, 0o600)
}

// addressSpace is what this process has mapped or reserved, in bytes: with Go more than a gigabyte
// before it does anything.
func addressSpace() (int64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var pages int64
	if _, err := fmt.Sscan(string(text), &pages); err != nil {
		return 0, fmt.Errorf("read /proc/self/statm: %w", err)
	}
	return pages * int64(os.Getpagesize()), nil
}
