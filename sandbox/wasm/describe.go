package wasm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	wapi "github.com/tetratelabs/wazero/api"

	"github.com/cloudless/cloudless/sandbox/rewrite"
)

// description is what is known of a module once it is compiled. It is kept beside the code, so that
// a node knows how to drive a module, and whether it may, without loading it.
type description struct {
	Digest  string         `json:"digest"` // of the module as it came
	Facts   facts          `json:"facts"`
	Imports []importedFunc `json:"imports,omitempty"` // of functions, each once
	Metered rewrite.Output `json:"metered"`           // without its bytes
	Module  fileSum        `json:"module"`            // the rewritten module
	Code    fileSum        `json:"code,omitzero"`     // what the engine made of it; the interpreter makes nothing
}

// fileSum is a file of an entry: its path there, its size, its SHA-256 in hex.
type fileSum struct {
	Path  string `json:"path,omitempty"`
	Bytes int64  `json:"bytes"`
	Sum   string `json:"sum"`
}

// importedFunc is a function that a module imports.
type importedFunc struct {
	Module string `json:"module"`
	Name   string `json:"name"`
	Type   string `json:"type"`
}

// facts are the part of a description that stays in memory for each module that is deployed here, so
// they are few and small.
type facts struct {
	Entries      entryTypes `json:"entries,omitzero"`  // of those exports that a host calls
	Exports      string     `json:"exports"`           // its exported functions, for people
	Imports      bool       `json:"imports,omitempty"` // it imports functions
	SharesMemory bool       `json:"sharesMemory,omitempty"`
	MemoryPages  uint32     `json:"memoryPages,omitempty"`
	Beside       int64      `json:"beside,omitempty"`     // see rewrite.Output
	Accepts      bool       `json:"accepts,omitempty"`    // it imports sock_accept
	Restorable   bool       `json:"restorable,omitempty"` // what it changes can be put back
	Fetch        string     `json:"fetch,omitempty"`      // the first of the functions that it imports to reach the world
	Store        string     `json:"store,omitempty"`      // and of those to reach a bucket
}

// descriptionFormat counts the changes of what a description says; entries of another are not used.
const descriptionFormat = 5

// typeEntry is the type of every function that a host calls without an argument.
const typeEntry = "() -> ()"

// entries are the exports that a host calls.
var entries = [...]string{exportHandle, exportResume, exportInit, exportStart}

// entryTypes are the types of entries, in their order; "" is one that the module does not export. In JSON
// it is a map, which for each module would take five times the memory.
type entryTypes [len(entries)]string

// of is the type of one of entries.
func (t *entryTypes) of(name string) string { return t[slices.Index(entries[:], name)] }

// MarshalJSON implements json.Marshaler.
func (t entryTypes) MarshalJSON() ([]byte, error) {
	types := map[string]string{}
	for i, name := range entries {
		if t[i] != "" {
			types[name] = t[i]
		}
	}
	return json.Marshal(types)
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *entryTypes) UnmarshalJSON(b []byte) error {
	var types map[string]string
	err := json.Unmarshal(b, &types)
	for i, name := range entries {
		if t[i] = types[name]; t[i] == typeEntry {
			t[i] = typeEntry // the same bytes for all modules
		}
	}
	return err
}

// describe tells what there is to know of a module, but for its files.
func describe(metered *rewrite.Output, m wazero.CompiledModule) *description {
	d := &description{Metered: *metered}
	d.Metered.Module = nil
	exported := m.ExportedFunctions()
	delete(exported, metered.Start)
	d.Facts = facts{
		Exports: exportList(exported), SharesMemory: m.ExportedMemories()["memory"] != nil, MemoryPages: metered.MemoryPages, Beside: metered.Beside,
		Restorable: !metered.WritesTables && !metered.DropsSegments && !metered.VectorGlobals,
	}
	for i, name := range entries {
		if def, ok := exported[name]; ok {
			d.Facts.Entries[i] = signature(def)
		}
	}
	seen := map[importedFunc]bool{}
	for _, def := range m.ImportedFunctions() {
		module, name, _ := def.Import()
		f := importedFunc{module, name, signature(def)}
		if seen[f] {
			continue
		}
		seen[f] = true
		d.Imports = append(d.Imports, f)
		d.Facts.Imports = d.Facts.Imports || !isTick(f)
		d.Facts.Accepts = d.Facts.Accepts || name == importAccept
		if d.Facts.Fetch == "" && isFetch(module, name) {
			d.Facts.Fetch = name
		}
		if d.Facts.Store == "" && isStore(module, name) {
			d.Facts.Store = name
		}
	}
	return d
}

func isTick(f importedFunc) bool {
	return f.Module == rewrite.TickModule && f.Name == rewrite.TickName
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

// exportList is a list for people, cut where it gets long.
func exportList(exported map[string]wapi.FunctionDefinition) string {
	if len(exported) == 0 {
		return "it exports no function"
	}
	names := make([]string, 0, len(exported))
	for name := range exported {
		names = append(names, name)
	}
	slices.Sort(names)
	const shown, longest = 8, 40
	if len(names) > shown {
		names = append(names[:shown], "…")
	}
	for i, name := range names {
		if len(name) > longest {
			names[i] = strings.ToValidUTF8(name[:longest], "") + "…"
		}
	}
	return "it exports " + strings.Join(names, ", ")
}

// addCode takes in the engine's file of the entry in dir.
func (d *description) addCode(dir, path string) error {
	f, err := openOwn(filepath.Join(dir, path))
	if err != nil {
		return err
	}
	defer f.Close()
	d.Code.Path = path
	d.Code.Bytes, d.Code.Sum, err = sumOfFile(f)
	return err
}

// encode gives the bytes of a description's file: its SHA-256 on a line of its own, then JSON.
func (d *description) encode() ([]byte, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return append([]byte(sumOf(text)+"\n"), text...), nil
}

// decodeDescription reads what encode wrote for a module.
func decodeDescription(data []byte, digest string) (*description, error) {
	sum, text, ok := bytes.Cut(data, []byte("\n"))
	if !ok || string(sum) != sumOf(text) {
		return nil, fmt.Errorf("%w: its description is not what was written", errDamaged)
	}
	d := &description{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("%w: its description: %w", errDamaged, err)
	}
	if d.Digest != digest {
		return nil, fmt.Errorf("%w: it is another module's", errDamaged)
	}
	if d.Code.Path != "" && !filepath.IsLocal(d.Code.Path) {
		return nil, fmt.Errorf("%w: its code lies outside of it", errDamaged)
	}
	return d, nil
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// sumOfFile reads a file to its end.
func sumOfFile(f *os.File) (bytes int64, sum string, err error) {
	h := sha256.New()
	bytes, err = f.WriteTo(h)
	return bytes, hex.EncodeToString(h.Sum(nil)), err
}
