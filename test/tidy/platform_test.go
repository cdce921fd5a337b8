package tidy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The product type-checks for every machine that it is built for: sizes and fields of the kernel's
// structures differ between them (syscall.Statfs_t), and who builds on one does not see it. Nothing is
// compiled, and of other people's packages only the declarations are looked at: some seconds, where
// 'make build-all' takes minutes.
func TestTheProductFitsEachPlatform(t *testing.T) {
	for _, arch := range []string{"arm", "arm64", "amd64"} {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			for _, err := range platformErrors(t, arch, listFor(t, arch)) {
				t.Error(err)
			}
		})
	}
}

// The check sees what a compiler sees: a field that is 64 bits wide here and 32 there.
func TestThePlatformCheckSeesAWidth(t *testing.T) {
	const source = "package p\n\nimport \"syscall\"\n\nfunc free(s syscall.Statfs_t) int64 { return s.Bsize }\n"
	file := filepath.Join(t.TempDir(), "p.go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	own := listed{ImportPath: "p", Dir: filepath.Dir(file), GoFiles: []string{"p.go"}, Module: &struct{ Main bool }{true}}
	for arch, wrong := range map[string]bool{"arm": true, "arm64": false} {
		errs := platformErrors(t, arch, append(listFor(t, arch, "syscall"), own))
		if wrong != (len(errs) > 0) {
			t.Errorf("%s: %v", arch, errs)
		}
	}
}

// listed is what 'go list' says of a package.
type listed struct {
	ImportPath, Dir string
	GoFiles         []string
	ImportMap       map[string]string
	Module          *struct{ Main bool }
}

// listFor lists packages and all that they import, dependencies first; the product by default.
func listFor(t *testing.T, arch string, patterns ...string) []listed {
	t.Helper()
	if len(patterns) == 0 {
		patterns = []string{"github.com/cloudless/cloudless/cli/cloudless"}
	}
	cmd := exec.Command("go", append([]string{"list", "-deps", "-tags=grpcnotrace,nopshufb", "-json=ImportPath,Dir,GoFiles,ImportMap,Module"}, patterns...)...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "GOARM=7", "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list for %s: %v\n%s", arch, err, &stderr)
	}
	var list []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// known gives packages that were checked before, as one package knows them.
type known struct {
	packages map[string]*types.Package
	renamed  map[string]string
}

func (k known) Import(path string) (*types.Package, error) {
	if to, ok := k.renamed[path]; ok {
		path = to
	}
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	p, ok := k.packages[path]
	if !ok {
		return nil, fmt.Errorf("%s is not listed", path)
	}
	return p, nil
}

// platformErrors checks packages in their order and gives what is wrong with the project's own.
func platformErrors(t *testing.T, arch string, list []listed) (errs []error) {
	t.Helper()
	packages := map[string]*types.Package{}
	for _, p := range list {
		if p.ImportPath == "unsafe" {
			continue
		}
		own := p.Module != nil && p.Module.Main
		conf := types.Config{
			Importer: known{packages, p.ImportMap}, Sizes: types.SizesFor("gc", arch), IgnoreFuncBodies: !own, FakeImportC: true,
			Error: func(err error) {
				if own {
					errs = append(errs, err)
				}
			},
		}
		files, fset := parsed(t, p)
		packages[p.ImportPath], _ = conf.Check(p.ImportPath, fset, files, nil) // conf.Error had it
	}
	return errs
}

func parsed(t *testing.T, p listed) ([]*ast.File, *token.FileSet) {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files, fset
}
