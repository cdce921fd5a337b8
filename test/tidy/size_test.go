package tidy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// maxBinaryBytes is what the stripped binary may weigh. It weighs a little less.
const maxBinaryBytes = 40_000_000

// The binary is made as the Makefile makes it. Where it can execute a template the linker must keep
// every exported method of every type, as a template could name it: that alone adds a fifth.
func TestBinaryStaysSmall(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("make", "-C", filepath.Join("..", ".."), "build-linux-amd64", "BIN="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make build-linux-amd64: %v\n%s", err, out)
	}
	binary, err := os.ReadFile(filepath.Join(dir, "cloudless-linux-amd64"))
	if err != nil {
		t.Fatal(err)
	}
	if len(binary) > maxBinaryBytes {
		t.Errorf("the binary has %d bytes, at most %d: see docs/RATIONALE.md for what keeps it small", len(binary), maxBinaryBytes)
	}
	if bytes.Contains(binary, []byte("text/template.(*Template).execute")) {
		t.Error("something now executes a text/template, and the linker keeps every method for it: find it with " +
			"go build -tags grpcnotrace,nopshufb -ldflags=-dumpdep ./cli/cloudless (ReflectMethod), and avoid it (docs/RATIONALE.md)")
	}
}
