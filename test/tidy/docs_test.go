package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// document is the text of a file below the project's root.
func document(t *testing.T, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// introduction is the line of GUARANTEES.md that tells how tests are named, with a name that is none.
const introduction = 2

// A promise is named by its test: one that was renamed or taken out proves nothing any more.
func TestGuaranteesNameTestsThatExist(t *testing.T) {
	named := regexp.MustCompile("`(?:([a-z][a-z0-9/-]*)\\.)?((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")
	exists := tests(t)
	found := 0
	for n, line := range strings.Split(document(t, "docs", "GUARANTEES.md"), "\n") {
		if n == introduction {
			continue
		}
		pkg := "" // a test that is named alone is of the package that the line named last
		for _, m := range named.FindAllStringSubmatch(line, -1) {
			if m[1] != "" {
				pkg = m[1]
			}
			found++
			if !exists[pkg+"."+m[2]] {
				t.Errorf("docs/GUARANTEES.md:%d names %s.%s, which does not exist", n+1, pkg, m[2])
			}
		}
	}
	if found < 100 {
		t.Fatalf("found only %d names of tests: the pattern is wrong", found)
	}
}

// tests are the names of all tests, as package.Name, the guests' included.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	add := func(pkg string, f *ast.File) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				out[pkg+"."+fn.Name.Name] = true
			}
		}
	}
	for _, s := range load(t) {
		if isTest(s) {
			add(s.pkg, s.file)
		}
	}
	guests, err := filepath.Glob(filepath.Join("..", "..", "wasm-examples", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range guests {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		add("wasm-examples", f)
	}
	return out
}

// Promises are cited by number, so that a number means one promise: 9, 9a, 10.
func TestGuaranteesAreNumberedInOrder(t *testing.T) {
	numbered := regexp.MustCompile(`^(\d+)([a-z]?)\. `)
	last, letter := 0, ""
	for n, line := range strings.Split(document(t, "docs", "GUARANTEES.md"), "\n") {
		m := numbered.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		number, _ := strconv.Atoi(m[1])
		next := m[2] == "" && number == last+1
		beside := number == last && (letter == "" && m[2] == "a" || letter != "" && m[2] != "" && m[2][0] == letter[0]+1)
		if !next && !beside {
			t.Errorf("docs/GUARANTEES.md:%d is numbered %s%s, after %d%s", n+1, m[1], m[2], last, letter)
		}
		last, letter = number, m[2]
	}
	if last == 0 {
		t.Fatal("found no number: the pattern is wrong")
	}
}

// Whoever uses the project must know what comes with it, and on what terms.
func TestEveryDependencyIsInTheTable(t *testing.T) {
	_, table, ok := strings.Cut(document(t, "docs", "RATIONALE.md"), "## Dependencies")
	if !ok {
		t.Fatal("docs/RATIONALE.md has no section of dependencies")
	}
	direct, _, _ := strings.Cut(document(t, "go.mod"), "\n)")
	major := regexp.MustCompile(`(/v\d+)? v\S+$`)
	for _, line := range strings.Split(direct, "\n") {
		mod, ok := strings.CutPrefix(line, "\t")
		if !ok || strings.HasPrefix(mod, "go.opentelemetry.io/otel/") { // told with otel itself
			continue
		}
		mod = major.ReplaceAllString(mod, "")
		name := mod[strings.LastIndex(mod, "/")+1:]
		if !regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(table) {
			t.Errorf("go.mod needs %s, which the table in docs/RATIONALE.md does not have: add it with its licence", mod)
		}
	}
}

// A link within the project leads to a file that is there.
func TestLinksLeadToFiles(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	leadSomewhere(t, link, 10, filepath.Dir)
}

// A path in a document is of a file or folder that is there: `coordinator/leader.go`, `agent/supervise`.
func TestDocumentsNamePathsThatExist(t *testing.T) {
	path := regexp.MustCompile("`((?:agent|api|chunkstore|cli|coordinator|deploy|docs|internal|sandbox|test|wasm-examples|web)" +
		`(?:/[\w-]+)+(?:\.(?:go|md|yaml|yml|json|service|sh|txtar))?)/?` + "`")
	leadSomewhere(t, path, 50, func(string) string { return filepath.Join("..", "..") })
}

// leadSomewhere looks for the files that a pattern finds in the documents, below the folder that from
// gives for a document; the pattern must find at least so many.
func leadSomewhere(t *testing.T, pattern *regexp.Regexp, least int, from func(page string) string) {
	t.Helper()
	root := filepath.Join("..", "..")
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range append(pages, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
			found++
			if _, err := os.Stat(filepath.Join(from(page), m[1])); err != nil {
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
		}
	}
	if found < least {
		t.Fatalf("found only %d: the pattern is wrong", found)
	}
}
