package wasm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// prepared is a driver that has hello in its cache, and where.
func prepared(t *testing.T, dir string) (*Driver, string) {
	t.Helper()
	d, _ := newLoggedDriver(t, dir)
	spec := moduleSpec("hello", api.ModeHTTP)
	if err := d.Prepare(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	return d, d.engine.cache.entry(spec.Digest)
}

// TestAKnownModuleStartsWithoutAChild: after a restart its code is read from disk.
func TestAKnownModuleStartsWithoutAChild(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[wasm") // the name is no pattern
	d, _ := prepared(t, dir)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, log := newLoggedDriver(t, dir)
	d.engine.compiler.program = "/nonexistent"
	server, _, _ := serve(t, d, moduleSpec("hello", api.ModeHTTP))
	if status, body := get(t, server.URL); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if compiled(log) > 0 {
		t.Errorf("the log says %s", log)
	}
	if err := d.Prepare(t.Context(), moduleSpec("echo", api.ModeHTTP)); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("a module that is not known, without a compiler: %v", err)
	}
}

// TestATrialIsRememberedOverARestart: what was instantiated well is not tried again, with anything else
// it is.
func TestATrialIsRememberedOverARestart(t *testing.T) {
	dir, spec := t.TempDir(), moduleSpec("hello", api.ModeHTTP)
	tries := 0
	try := func(spec sandbox.Spec) {
		t.Helper()
		d, _ := newLoggedDriver(t, dir)
		known, err := d.engine.inspect(t.Context(), spec)
		if err == nil {
			err = known.tried.once(spec, driveCl, func() error { tries++; return nil })
		}
		if err := errors.Join(err, d.Close()); err != nil {
			t.Fatal(err)
		}
	}
	d, entry := prepared(t, dir)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(entry, triedFile)
	for i := range maxTrials {
		spec.Memory = api.Bytes(i+1) * pageBytes
		try(spec)
		try(spec)
	}
	if tries != maxTrials {
		t.Errorf("%d tries of %d specs", tries, maxTrials)
	}
	if info, err := os.Stat(file); err != nil || info.Size() != maxTrials*sha256.Size {
		t.Errorf("the file is %v, error %v", info, err)
	}
	spec.Memory = 100 * pageBytes
	try(spec)
	if info, err := os.Stat(file); err != nil || info.Size() != sha256.Size {
		t.Errorf("one more than are kept: the file is %v, error %v", info, err)
	}
	for name, harm := range harms(t) {
		if err := harm(file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before := tries
		try(spec)
		if tries == before {
			t.Errorf("%s: the file is believed", name)
		}
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		try(spec)
	}
}

// TestNothingIsCompiledInThisProcess: the engine loads code that is there, and else fails.
func TestNothingIsCompiledInThisProcess(t *testing.T) {
	if engineName() != "compiler" {
		t.Skip("the interpreter has nothing to compile to")
	}
	d, entry := prepared(t, t.TempDir())
	code, err := os.ReadFile(filepath.Join(entry, moduleFile))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := d.engine.runtime.CompileModule(neverCompile, code); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v and error %v, want a refusal", m, err)
	}
}

// TestADamagedEntryIsMadeAnew, whatever was done to which file, before the module starts.
func TestADamagedEntryIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	d, entry := prepared(t, dir)
	good := contents(t, entry)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for file := range good {
		for name, harm := range harms(t) {
			t.Run(strings.Split(file, "/")[0]+" "+name, func(t *testing.T) {
				if err := harm(filepath.Join(entry, file)); err != nil {
					t.Fatal(err)
				}
				d, log := newLoggedDriver(t, dir)
				server, _, _ := serve(t, d, moduleSpec("hello", api.ModeHTTP))
				if status, body := get(t, server.URL); status != 200 || body != "hello\n" {
					t.Errorf("%d %s", status, body)
				}
				if n := compiled(log); n != 1 || !strings.Contains(log.String(), "is thrown away and made anew") {
					t.Errorf("%d children, and the log says %s", n, log)
				}
				if now := contents(t, entry); len(now) != len(good) || now[moduleFile] != good[moduleFile] {
					t.Error("the entry is not what it was")
				}
			})
		}
	}
}

// contents are the files of an entry that a child made, by their paths there.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && path != triedFile {
			var data []byte
			data, err = os.ReadFile(filepath.Join(dir, path))
			files[path] = string(data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// harms are ways to spoil a file.
func harms(t *testing.T) map[string]func(string) error {
	rewritten := func(change func([]byte) []byte) func(string) error {
		return func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, change(data), 0o600)
		}
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	all := map[string]func(string) error{
		"cut short": rewritten(func(p []byte) []byte { return p[:len(p)/2] }),
		"emptied":   rewritten(func([]byte) []byte { return nil }),
		"longer":    rewritten(func(p []byte) []byte { return append(p, 0) }),
		"flipped":   rewritten(func(p []byte) []byte { p[len(p)/2] ^= 1; return p }),
		"gone":      os.Remove,
		"writable":  func(path string) error { return os.Chmod(path, 0o660) },
		"a link": func(path string) error {
			return errors.Join(os.RemoveAll(elsewhere), os.Rename(path, elsewhere), os.Symlink(elsewhere, path))
		},
		"a folder": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	}
	if os.Geteuid() == 0 {
		all["another's"] = func(path string) error { return os.Chown(path, 1, -1) }
	}
	return all
}

// A whole entry that is another module's, or that others can write to, is not taken.
func TestAForeignEntryIsMadeAnew(t *testing.T) {
	for name, harm := range map[string]func(entry, other string) error{
		"another module's": func(entry, other string) error { return errors.Join(os.RemoveAll(entry), os.Rename(other, entry)) },
		"writable":         func(entry, _ string) error { return os.Chmod(entry, 0o770) },
		"a link":           func(entry, other string) error { return errors.Join(os.RemoveAll(entry), os.Symlink(other, entry)) },
		"a file":           func(entry, _ string) error { return errors.Join(os.RemoveAll(entry), os.WriteFile(entry, nil, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d, entry := prepared(t, dir)
			echo := moduleSpec("echo", api.ModeHTTP)
			if err := errors.Join(d.Prepare(t.Context(), echo), d.Close(), harm(entry, d.engine.cache.entry(echo.Digest))); err != nil {
				t.Fatal(err)
			}
			d, log := newLoggedDriver(t, dir)
			server, _, _ := serve(t, d, moduleSpec("hello", api.ModeHTTP))
			if status, body := get(t, server.URL); status != 200 || body != "hello\n" || compiled(log) != 1 {
				t.Errorf("%d %s, and the log says %s", status, body, log)
			}
		})
	}
}

func TestTheCacheOfAnotherUserIsNotUsed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a folder away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 1, -1); err != nil {
		t.Fatal(err)
	}
	if d, err := New(Config{CacheDir: dir}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("got %v and error %v", d, err)
	}
}

// TestTwoProcessesShareACache: each has its work folder, and neither takes the other's away.
func TestTwoProcessesShareACache(t *testing.T) {
	dir := t.TempDir()
	a, _ := newLoggedDriver(t, dir)
	b, _ := newLoggedDriver(t, dir)
	var wg sync.WaitGroup
	for _, name := range []string{"hello", "echo", "evil", "wagi"} {
		for _, d := range []*Driver{a, b} {
			wg.Go(func() { start(t, d, moduleSpec(name, api.ModeHTTP)) })
		}
	}
	wg.Wait()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, b, moduleSpec("hello", api.ModeHTTP))
	for _, d := range []*Driver{a, b} {
		if _, err := os.Stat(d.engine.cache.work); (err == nil) != (d == b) {
			t.Errorf("%s: %v", d.engine.cache.work, err)
		}
	}
	all, err := b.engine.cache.list()
	if err != nil || len(all) != 4 {
		t.Errorf("%d entries, error %v", len(all), err)
	}
}

// variant is hello with a custom section of its own, and so another module.
func variant(t testing.TB, n int) sandbox.Spec {
	t.Helper()
	hello, err := os.ReadFile("testdata/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	spec := rubbish(t, append(bytes.Clone(hello), section(0, []byte{4}, fmt.Appendf(nil, "%04d", n))...))
	spec.Wasm.Mode = api.ModeHTTP
	return spec
}

// codeMappings counts the pieces of memory of this process that hold loaded code.
func codeMappings(t testing.TB) (n int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if f := strings.Fields(line); len(f) == 5 && f[1] == "r-xp" {
			n++
		}
	}
	return n
}

func TestUnusedCodeIsDropped(t *testing.T) {
	d := newDriver(t)
	const modules = 2 * maxUnused
	before := 0
	for i := range modules {
		spec := variant(t, i)
		if err := d.Prepare(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if n := len(d.engine.loaded); n != min(i, maxUnused) {
			t.Fatalf("%d modules are loaded once number %d is only prepared", n, i)
		}
		m, err := d.engine.acquire(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		d.engine.release(m)
		if i == maxUnused-1 {
			before = codeMappings(t)
		}
	}
	if e := d.engine; len(e.unused) != maxUnused || len(e.known) != modules {
		t.Errorf("%d modules stay loaded, and %d are known", len(e.unused), len(e.known))
	}
	eventually(t, "the release of dropped code", func() bool {
		runtime.GC() // wazero unmaps code when nothing refers to it
		return codeMappings(t) <= before
	})
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	for _, m := range d.engine.unused {
		m.bytes = maxUnusedBytes / maxUnused
	}
	newest := d.engine.unused[maxUnused-1]
	for _, step := range []struct {
		more int64
		left int
	}{{0, maxUnused}, {1, maxUnused - 1}, {maxUnusedBytes, 1}} {
		newest.bytes += step.more
		if d.engine.shed(); len(d.engine.unused) != step.left || !slices.Contains(d.engine.unused, newest) {
			t.Errorf("with %d bytes more, %d modules stay, want %d", step.more, len(d.engine.unused), step.left)
		}
	}
}

// A module that says in a few bytes that it has many locals is many bytes once it is loaded.
func TestUnusedCodeCountsWhatItUnfoldsTo(t *testing.T) {
	d := newDriver(t)
	spec := rubbish(t, bomb(100, 5_000, nil))
	m, err := d.engine.acquire(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer d.engine.release(m)
	if locals := int64(100 * 5_000 * 8); m.bytes < locals {
		t.Errorf("it counts %d bytes, and its locals alone are %d", m.bytes, locals)
	}
}

// Compiled code that is over the bound goes, the longest unused first; not what is loaded, nor what
// assignments name.
func TestTheCacheOfCompiledModulesIsBounded(t *testing.T) {
	d, _ := newLoggedDriver(t, t.TempDir())
	specs := map[string]sandbox.Spec{}
	for i, name := range []string{"old", "named", "loaded", "new"} {
		spec := variant(t, i)
		if err := d.Prepare(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		used := time.Now().Add(time.Duration(i-100) * time.Hour)
		if err := os.Chtimes(d.engine.cache.entry(spec.Digest), used, used); err != nil {
			t.Fatal(err)
		}
		specs[name] = spec
	}
	start(t, d, specs["loaded"])
	other := strings.TrimSuffix(d.engine.cache.entry(specs["named"].Digest), d.engine.cache.kind) + "otherkind"
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	huge, err := os.Create(filepath.Join(other, moduleFile))
	if err != nil {
		t.Fatal(err)
	}
	defer huge.Close()
	keep := map[string]bool{specs["named"].Digest: true}
	for _, step := range []struct {
		bytes int64
		left  string
	}{{0, "old named loaded new other"}, {maxCacheBytes, "named loaded"}} {
		if err := huge.Truncate(step.bytes); err != nil { // takes no room on disk
			t.Fatal(err)
		}
		if err := d.Trim(t.Context(), keep); err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, name := range []string{"old", "named", "loaded", "new"} {
			if _, err := os.Stat(d.engine.cache.entry(specs[name].Digest)); err == nil {
				left = append(left, name)
			}
		}
		if _, err := os.Stat(other); err == nil {
			left = append(left, "other")
		}
		if got := strings.Join(left, " "); got != step.left {
			t.Errorf("with %d bytes more: %s is left, want %s", step.bytes, got, step.left)
		}
	}
	if n := len(d.engine.known); n != 2 {
		t.Errorf("%d modules are known, want the named and the loaded one", n)
	}
	start(t, d, specs["old"])
}

func TestIdleModulesCostLittleMemory(t *testing.T) {
	d, _ := newLoggedDriver(t, t.TempDir())
	const modules, most = 500, 1 << 10
	specs := describedOnly(t, d, modules)
	before := heap()
	for _, spec := range specs {
		if err := d.Prepare(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	if each := (heap() - before) / modules; each > most {
		t.Errorf("%d bytes for each idle module, want at most %d", each, most)
	}
	if len(d.engine.loaded) != 0 {
		t.Errorf("%d modules are loaded", len(d.engine.loaded))
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// describedOnly fills a driver's cache with so many descriptions of a real C guest.
func describedOnly(t testing.TB, d *Driver, modules int) []sandbox.Spec {
	t.Helper()
	real := fileSpec("../../wasm-examples/hello-c/hello.wasm", api.ModeHTTP)
	if err := d.Prepare(t.Context(), real); err != nil {
		t.Fatal(err)
	}
	description, err := d.engine.cache.describe(real.Digest)
	if err != nil {
		t.Fatal(err)
	}
	specs := make([]sandbox.Spec, modules)
	for i := range specs {
		specs[i] = real
		specs[i].Digest = fmt.Sprintf("sha256:%064x", i)
		description.Digest = specs[i].Digest
		text, err := description.encode()
		if err != nil {
			t.Fatal(err)
		}
		dir := d.engine.cache.entry(specs[i].Digest)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, descriptionFile), text, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return specs
}
