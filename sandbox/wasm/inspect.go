package wasm

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"github.com/tetratelabs/wazero"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox/rewrite"
	"github.com/cloudless/cloudless/sandbox/wasi"
)

// drive is how a guest is driven.
type drive string

const (
	driveCl       drive = "cl"       // cl_handle, once a request
	driveWAGI     drive = "wagi"     // _start, once a request
	driveListener drive = "listener" // _start, once; it accepts connections
	driveProcess  drive = "process"  // _start, once
)

const (
	exportHandle = "cl_handle"
	exportResume = "cl_resume"
	exportInit   = "_initialize"
	exportStart  = "_start"

	importAccept = "sock_accept" // a guest that accepts connections serves them
)

// entry is the export that a drive calls.
func (d drive) entry() string {
	if d == driveCl {
		return exportHandle
	}
	return exportStart
}

var (
	magic            = []byte("\x00asm")
	versionModule    = []byte{1, 0, 0, 0}
	versionComponent = []byte{0x0d, 0, 1, 0}
)

// openModule opens a module's file.
func openModule(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.CodeNotFound, "the module's file %q is not on this node", path)
	}
	return f, err
}

// readModule reads a module unless it is too large.
func readModule(r io.Reader) ([]byte, error) {
	code, err := io.ReadAll(io.LimitReader(r, api.MaxModuleBytes+1))
	if err != nil {
		return nil, err
	}
	if len(code) > api.MaxModuleBytes {
		return nil, invalid("the module is larger than %d bytes, the most that a module may have", api.MaxModuleBytes)
	}
	return code, nil
}

// checkHeader tells a core module from other files, and says what those are.
func checkHeader(code []byte) error {
	head, ok := bytes.CutPrefix(code, magic)
	switch {
	case !ok:
		return invalid("this is not a wasm module: it does not begin with \\0asm").
			WithHint("give the .wasm file that the compiler wrote, not its text form or its JavaScript")
	case bytes.HasPrefix(head, versionComponent):
		return invalid("this is a component of the component model; only core modules run here").
			WithHint("build for WASI preview 1 (Rust: target wasm32-wasip1; Go: GOOS=wasip1), or take the core module out with wasm-tools component unbundle")
	case !bytes.HasPrefix(head, versionModule):
		return invalid("the module has an unknown version (bytes % x) or is cut short", head[:min(4, len(head))])
	}
	return nil
}

// maxReason bounds what is said of a module that is refused, in bytes.
const maxReason = 2 << 10

// invalid is the refusal of a module. What it quotes of the module is a stranger's, and people read it on
// their terminals.
func invalid(format string, args ...any) *api.Error {
	e := api.Errorf(api.CodeInvalid, format, args...)
	e.Message = printable(e.Message)
	return e
}

// printable is text without what a terminal would take for a command, cut where it gets long.
func printable(text string) string {
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// compileError is the engine's refusal of a module, unless it is the disk's or the kernel's.
func compileError(err error) error {
	if errors.As(err, new(syscall.Errno)) {
		return err
	}
	return invalid("the module cannot be compiled: %v", err).
		WithHint("it is damaged, or it uses a proposal of WebAssembly that this version does not know")
}

// hostModules are the modules that a guest may import from.
var hostModules = [...]string{wasi.Module, rewrite.TickModule}

// hostFunctions are the types of the functions that guests may import, by module and name.
type hostFunctions map[[2]string]string

// hostFunctionsOf lists what is registered in a runtime.
func hostFunctionsOf(rt wazero.Runtime) hostFunctions {
	host := hostFunctions{}
	for _, module := range hostModules {
		for name, def := range rt.Module(module).ExportedFunctionDefinitions() {
			host[[2]string{module, name}] = signature(def)
		}
	}
	return host
}

func (h hostFunctions) grants(module, name string) bool {
	_, ok := h[[2]string{module, name}]
	return ok
}

// check refuses a module that imports what nobody gives, or by another type. A child has checked the
// names, but maybe one of an earlier version that gave more.
func (h hostFunctions) check(imports []importedFunc) error {
	var unknown []string
	for _, f := range imports {
		given, ok := h[[2]string{f.Module, f.Name}]
		if !ok {
			unknown = append(unknown, f.Module+"."+f.Name)
		} else if given != f.Type {
			return invalid("the module imports %s.%s with the type %s; it is %s here", f.Module, f.Name, f.Type, given)
		}
	}
	if len(unknown) > 0 {
		return notGranted(unknown, "")
	}
	return nil
}

// notGranted names imports that nobody gives, and where they are.
func notGranted(names []string, where string) *api.Error {
	slices.Sort(names)
	return invalid("the module imports what nobody gives it here: %s%s", strings.Join(slices.Compact(names), ", "), where).
		WithHint("a guest may import wasi_snapshot_preview1 and cl; build it for WASI preview 1 and without JavaScript glue")
}

// driveOf finds how to drive a module: from its mode, and for http from its exports unless the
// manifest names the interface.
func driveOf(f *facts, spec *api.WasmSpec) (drive, error) {
	mode := spec.Mode
	if mode == "" {
		mode = api.ModeHTTP
	}
	if mode != api.ModeHTTP {
		return driveProcess, f.needs(exportStart, "mode "+string(mode))
	}
	handles, starts := f.Entries.of(exportHandle) != "", f.Entries.of(exportStart) != ""
	switch {
	case spec.Interface == "listener" && !f.Accepts:
		return "", invalid("interface listener needs a module that imports sock_accept").
			WithHint("serve on file descriptor 3, or use the interface cl or wagi")
	case spec.Interface == "listener", spec.Interface == "" && !handles && starts && f.Accepts:
		return driveListener, f.needs(exportStart, "interface listener")
	case spec.Interface == "cl", spec.Interface == "" && handles:
		return driveCl, errors.Join(f.needs(exportHandle, "interface cl"), f.entry(exportInit), f.entry(exportResume))
	case spec.Interface == "wagi", spec.Interface == "" && starts:
		return driveWAGI, f.needs(exportStart, "interface wagi")
	case spec.Interface != "":
		return "", invalid("wasm.interface %q is not cl, wagi or listener", spec.Interface)
	}
	return "", invalid("the module cannot answer HTTP: it exports neither cl_handle (interface cl) nor _start (interface wagi); %s", f.Exports).
		WithHint("a module that is not for HTTP needs wasm.mode service or job, and _start")
}

// needs checks that the module exports a function () -> () under name, and its memory.
func (f *facts) needs(name, who string) error {
	if f.Entries.of(name) == "" {
		return invalid("%s needs a module that exports %s; %s", who, name, f.Exports)
	}
	if err := f.entry(name); err != nil {
		return err
	}
	if f.Imports && !f.SharesMemory {
		return invalid("the module does not export its memory under the name memory")
	}
	return nil
}

// entry checks the type of an export that is to be called, if the module has it.
func (f *facts) entry(name string) error {
	if typ := f.Entries.of(name); typ != "" && typ != typeEntry {
		return invalid("the module exports %s with the type %s; it must be %s", name, typ, typeEntry)
	}
	return nil
}

// fits checks that a module's memory has room within a limit from the start, with what counts beside it.
func (f *facts) fits(pages uint32) error {
	beside := (counted(f.Beside) + pageBytes - 1) / pageBytes
	if uint64(f.MemoryPages)+beside <= uint64(pages) {
		return nil
	}
	return invalid("the module's memory of %d pages (of 64Ki) from the start, with %d for its tables and globals, is over the limit of %d pages", f.MemoryPages, beside, pages).
		WithHint("raise spec.resources.memory, or link it with a smaller memory")
}
