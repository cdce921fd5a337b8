// Package tidy holds the project to its own rules: who may import whom, what pure packages may not
// do, where third-party libraries may live. Each rule says its reason when it fails.
package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/cloudless/cloudless/"

// source is one parsed Go file: its package folder and what it imports.
type source struct {
	path, pkg string
	file      *ast.File
	imports   []string
	lines     int
}

func load(t *testing.T) []source {
	t.Helper()
	var out []source
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "testdata" || rel == "wasm-examples" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, data, parser.ParseComments)
		if err != nil {
			return err
		}
		s := source{path: filepath.ToSlash(rel), pkg: filepath.ToSlash(filepath.Dir(rel)), file: f, lines: strings.Count(string(data), "\n")}
		for _, imp := range f.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			s.imports = append(s.imports, p)
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("found only %d Go files: the walk is wrong", len(out))
	}
	return out
}

func isTest(s source) bool { return strings.HasSuffix(s.path, "_test.go") }

// pure are the L1 packages: functions of their arguments.
var pure = []string{"api/meta", "coordinator/state", "coordinator/schedule", "coordinator/reconcile", "agent/converge", "agent/mirror", "sandbox/rewrite", "chunkstore/split", "chunkstore/place", "chunkstore/erasure", "chunkstore/checksum"}

// roles are the L3 packages, which meet only in cli.
var roles = []string{"coordinator", "agent", "web"}

// sideways lists what an L2 package may import beside api, L1, run and telemetry.
var sideways = map[string][]string{
	"internal/run":          {},
	"internal/telemetry":    {"internal/run"},
	"internal/datadir":      {},
	"internal/disk":         {},
	"internal/pki":          {},
	"internal/link":         {"internal/pki"},
	"internal/gossip":       {},
	"internal/minisign":     {},
	"coordinator/consensus": {"internal/pki", "internal/disk"},
	"agent/supervise":       {"sandbox", "agent/ledger", "agent/volume"},
	"agent/volume":          {"sandbox", "internal/datadir"},                             // and mirror, which is pure
	"coordinator/upkeep":    {"coordinator/objects", "chunkstore", "chunkstore/gateway"}, // what rows ask for, what nodes have, and how a member is one to place
	"coordinator/objects":   {"internal/disk"},                                           // and split, which is pure: a manifest is what an object's row names
	"agent/ingress":         {"sandbox"},
	"agent/ledger":          {"internal/disk"},
	"agent/upkeep":          {"chunkstore"},
	"sandbox":               {},
	"sandbox/wasm":          {"sandbox", "sandbox/buckets", "sandbox/egress", "sandbox/linear", "sandbox/wasi"}, // and rewrite, which is pure
	"sandbox/linear":        {},
	"sandbox/egress":        {"sandbox"},
	"sandbox/buckets":       {"sandbox"},
	"sandbox/wasi":          {}, // and no engine: sandbox/wasm binds it
	"sandbox/oci":           {"sandbox"},
	"sandbox/fake":          {"sandbox"},
	"sandbox/drivertest":    {"sandbox"},
	"chunkstore":            {"internal/disk"},
	"chunkstore/transfer":   {"chunkstore"},
	"chunkstore/gateway":    {"chunkstore"}, // and split and place, which are pure
	"chunkstore/s3":         {"chunkstore", "chunkstore/gateway"},
	"api/client":            {},
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range load(t) {
		if isTest(s) {
			continue
		}
		for _, imp := range s.imports {
			if dep, ok := strings.CutPrefix(imp, module); ok {
				if why := refused(s.pkg, dep); why != "" {
					t.Errorf("%s imports %s: %s", s.path, dep, why)
				}
			}
		}
	}
}

// refused says why pkg may not import dep, or "".
func refused(pkg, dep string) string {
	switch {
	case strings.HasPrefix(pkg, "test/"), strings.HasPrefix(pkg, "cli"):
		return "" // they know every role
	case pkg == "api":
		return "api stands on the standard library alone"
	case pkg == "api/manifest":
		return unless(dep == "api", "a manifest knows only the nouns")
	case slices.Contains(pure, pkg):
		return unless(dep == "api" || dep == "internal/invariant" || slices.Contains(pure, dep), "a pure package imports api and other pure packages only")
	case slices.Contains(roles, pkg):
		return unless(!slices.Contains(roles, dep) && !strings.HasPrefix(dep, "cli"), "roles never import each other; they meet in cli/serve.go")
	}
	side, known := sideways[pkg]
	if !known {
		return "package " + pkg + " is in no layer: add it to test/tidy with its reason"
	}
	ok := dep == "api" || dep == "internal/run" && pkg != "internal/run" || dep == "internal/telemetry" && pkg != "internal/run" || slices.Contains(pure, dep) || slices.Contains(side, dep)
	return unless(ok, "it is not among what "+pkg+" may import sideways")
}

func unless(ok bool, why string) string {
	if ok {
		return ""
	}
	return why
}

func TestPurePackagesDoNothing(t *testing.T) {
	banned := map[string]string{"net": "no network", "os": "no files, no environment", "math/rand": "no chance", "math/rand/v2": "no chance", "sync": "no locks", "crypto/rand": "no chance", "net/http": "no network"}
	for _, s := range load(t) {
		if isTest(s) || !slices.Contains(pure, s.pkg) {
			continue
		}
		for _, imp := range s.imports {
			if why, bad := banned[imp]; bad {
				t.Errorf("%s imports %s: a pure package has %s", s.path, imp, why)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine: a pure package does not", s.path)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && (n.Sel.Name == "Now" || n.Sel.Name == "Since" || n.Sel.Name == "Until") {
					t.Errorf("%s calls time.%s: a pure package takes now as an argument", s.path, n.Sel.Name)
				}
			}
			return true
		})
	}
}

// homes says in which package a third-party library lives, so that it can be changed in one place.
var homes = map[string][]string{
	"github.com/hashicorp/raft":       {"coordinator/consensus"},
	"github.com/hashicorp/serf":       {"internal/gossip"},
	"github.com/hashicorp/memberlist": {"internal/gossip"},
	"github.com/hashicorp/go-memdb":   {"coordinator/state"},
	"github.com/hashicorp/yamux":      {"internal/link"},
	"github.com/containerd/":          {"sandbox/oci"},
	"github.com/tetratelabs/wazero":   {"sandbox/wasm"},
	"github.com/labstack/echo":        {"web"},
	"github.com/spf13/":               {"cli", "cli/cloudless"},
	"github.com/cockroachdb/pebble":   {"coordinator/consensus", "agent/ledger", "chunkstore", "coordinator/objects", "internal/disk"},
	"github.com/prometheus/":          {"internal/telemetry"},
	"go.opentelemetry.io/":            {"internal/telemetry", "web"}, // web only reads trace ids
	"github.com/klauspost/compress":   {"chunkstore"},
	"go.yaml.in/yaml":                 {"api/manifest"},
}

func TestLibrariesStayHome(t *testing.T) {
	for _, s := range load(t) {
		if isTest(s) || strings.HasPrefix(s.pkg, "test/") {
			continue
		}
		for _, imp := range s.imports {
			for lib, where := range homes {
				if strings.HasPrefix(imp, lib) && !slices.Contains(where, s.pkg) {
					t.Errorf("%s imports %s, which lives in %v", s.path, imp, where)
				}
			}
		}
	}
}

func TestPackagesAreNounsTwoDeep(t *testing.T) {
	for _, s := range load(t) {
		for _, part := range strings.Split(s.pkg, "/") {
			if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "types", "manager"}, part) {
				t.Errorf("%s: a package is named for what it is, not %q", s.path, part)
			}
		}
		if strings.Count(s.pkg, "/") > 1 {
			t.Errorf("%s: packages nest at most two deep", s.path)
		}
	}
}

func TestFilesStayShort(t *testing.T) {
	const most = 400
	for _, s := range load(t) {
		if !isTest(s) && s.lines > most {
			t.Errorf("%s has %d lines, at most %d: split it by what it is about", s.path, s.lines, most)
		}
	}
}

func TestPackagesAreDocumented(t *testing.T) {
	documented, first := map[string]bool{}, map[string]string{}
	for _, s := range load(t) {
		if isTest(s) {
			continue
		}
		first[s.pkg] = s.path
		documented[s.pkg] = documented[s.pkg] || s.file.Doc != nil
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no doc comment (%s): a newcomer starts there", pkg, first[pkg])
		}
	}
}
