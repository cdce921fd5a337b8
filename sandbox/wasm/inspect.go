package wasm

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	wapi "github.com/tetratelabs/wazero/api"

	"github.com/cloudless/cloudless/api"
)

// drive is how a guest is driven.
type drive string

const (
	driveCl      drive = "cl"      // cl_handle, once a request
	driveWAGI    drive = "wagi"    // _start, once a request
	driveProcess drive = "process" // _start, once
)

const (
	exportHandle = "cl_handle"
	exportInit   = "_initialize"
	exportStart  = "_start"
)

var (
	magic            = []byte("\x00asm")
	versionModule    = []byte{1, 0, 0, 0}
	versionComponent = []byte{0x0d, 0, 1, 0}
)

// readModule reads a module's file unless it is too large.
func readModule(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.CodeNotFound, "the module's file %q is not on this node", path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	code, err := io.ReadAll(io.LimitReader(f, api.MaxModuleBytes+1))
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

func invalid(format string, args ...any) *api.Error {
	return api.Errorf(api.CodeInvalid, format, args...)
}

func compileError(err error) error {
	e := invalid("the module cannot be compiled: %v", err)
	if strings.Contains(err.Error(), "over limit") {
		return e.WithHint("it wants more memory from the start than it may have: raise spec.resources.memory")
	}
	return e.WithHint("it is damaged, or it uses a proposal of WebAssembly that this version does not know")
}

// checkImports refuses a module that needs what no host module gives, naming each such function.
func checkImports(rt wazero.Runtime, m wazero.CompiledModule) error {
	var unknown []string
	for _, def := range m.ImportedFunctions() {
		module, name, _ := def.Import()
		full := module + "." + name
		host := rt.Module(module)
		if host == nil {
			unknown = append(unknown, full)
			continue
		}
		given, ok := host.ExportedFunctionDefinitions()[name]
		if !ok {
			unknown = append(unknown, full)
		} else if !slices.Equal(given.ParamTypes(), def.ParamTypes()) || !slices.Equal(given.ResultTypes(), def.ResultTypes()) {
			return invalid("the module imports %s with the type %s; it is %s here", full, signature(def), signature(given))
		}
	}
	for _, def := range m.ImportedMemories() {
		module, name, _ := def.Import()
		unknown = append(unknown, module+"."+name+" (a memory)")
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return invalid("the module imports what nobody gives it here: %s", strings.Join(slices.Compact(unknown), ", ")).
		WithHint("a guest may import wasi_snapshot_preview1 and cl; build it for WASI preview 1 and without JavaScript glue")
}

func signature(def wapi.FunctionDefinition) string {
	return "(" + typeNames(def.ParamTypes()) + ") -> (" + typeNames(def.ResultTypes()) + ")"
}

func typeNames(types []wapi.ValueType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = wapi.ValueTypeName(t)
	}
	return strings.Join(names, ", ")
}

// driveOf finds how to drive a module: from its mode, and for http from its exports unless the
// manifest names the interface.
func driveOf(m wazero.CompiledModule, spec *api.WasmSpec) (drive, error) {
	mode := spec.Mode
	if mode == "" {
		mode = api.ModeHTTP
	}
	if mode != api.ModeHTTP {
		return driveProcess, needs(m, exportStart, "mode "+string(mode))
	}
	_, handles := m.ExportedFunctions()[exportHandle]
	_, starts := m.ExportedFunctions()[exportStart]
	switch {
	case spec.Interface == "listener":
		return "", api.Errorf(api.CodeUnsupported, "wasm.interface listener is not supported by this version").WithHint("use cl or wagi")
	case spec.Interface == "cl", spec.Interface == "" && handles:
		return driveCl, needs(m, exportHandle, "interface cl")
	case spec.Interface == "wagi", spec.Interface == "" && starts:
		return driveWAGI, needs(m, exportStart, "interface wagi")
	case spec.Interface != "":
		return "", invalid("wasm.interface %q is not cl, wagi or listener", spec.Interface)
	}
	return "", invalid("the module cannot answer HTTP: it exports neither cl_handle (interface cl) nor _start (interface wagi); %s", exportList(m)).
		WithHint("a module that is not for HTTP needs wasm.mode service or job, and _start")
}

// needs checks that the module exports a function () -> () under name, and its memory.
func needs(m wazero.CompiledModule, name, who string) error {
	def, ok := m.ExportedFunctions()[name]
	if !ok {
		return invalid("%s needs a module that exports %s; %s", who, name, exportList(m))
	}
	if len(def.ParamTypes()) > 0 || len(def.ResultTypes()) > 0 {
		return invalid("the module exports %s with the type %s; it must be () -> ()", name, signature(def))
	}
	if len(m.ImportedFunctions()) > 0 && m.ExportedMemories()["memory"] == nil {
		return invalid("the module does not export its memory under the name memory")
	}
	return nil
}

func exportList(m wazero.CompiledModule) string {
	names := make([]string, 0, len(m.ExportedFunctions()))
	for name := range m.ExportedFunctions() {
		names = append(names, name)
	}
	if len(names) == 0 {
		return "it exports no function"
	}
	slices.Sort(names)
	const shown = 8
	if len(names) > shown {
		names = append(names[:shown], "…")
	}
	return "it exports " + strings.Join(names, ", ")
}
