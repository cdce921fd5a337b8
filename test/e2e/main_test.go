// Package e2e drives real processes of the built binary, as a user would: it deploys, kills, cuts off,
// restarts, and looks from outside. Members of a cluster have a network namespace each
// (network_test.go), so that they use the ports of the contract and can lose their network.
//
// The tests run in namespaces of their own (contain_test.go): nothing that they start, mount or
// configure outlives them, whatever ends them, and two runs do not meet.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const helloModule = "../../wasm-examples/hello-c/hello.wasm"

// folderEnv names the folder of what is built once for all tests.
const folderEnv = "CLOUDLESS_E2E_FOLDER"

var (
	binary     string // cloudless
	helloImage string // the example's OCI layout as a tarball
)

func TestMain(m *testing.M) {
	os.Exit(contain(build, func(dir string) int {
		binary, helloImage = filepath.Join(dir, "cloudless"), filepath.Join(dir, "hello-oci.tar")
		return m.Run()
	}))
}

// build makes what the tests run.
func build(dir string) error {
	for _, args := range [][]string{
		{"build", "-o", filepath.Join(dir, "cloudless"), "../../cli/cloudless"},
		{"run", "../../wasm-examples/hello-oci/mkimage", filepath.Join(dir, "hello-oci.tar")},
	} {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", args[0], err, out)
		}
	}
	return nil
}
