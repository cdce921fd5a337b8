package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	ggcr "github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

const (
	testNode    = "n-octest"
	testCluster = "c-octest"
	patience    = 30 * time.Second
)

// machine is what the tests share: a private containerd and an image.
type machine struct {
	dir    string // short, as sockets live below it
	daemon *daemon
	guest  string // the static test program
	tar    string // OCI layout tarball
	digest string

	rules map[string]bool // that iptables had before the tests: a run that was killed leaves its own

	deaf, deafDigest string // the same image with a stop signal that its program does not notice
}

// lab is nil where the tests that need root cannot run.
var lab *machine

func TestMain(m *testing.M) {
	code := 1
	if err := withLab(func() { code = m.Run() }); err != nil {
		fmt.Fprintln(os.Stderr, "oci tests:", err)
		code = 1
	}
	os.Exit(code)
}

func withLab(f func()) error {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "NOT ROOT: the tests that run containers are skipped")
		f()
		return nil
	}
	dir, err := os.MkdirTemp("/tmp", "cl")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	lab = &machine{dir: dir, guest: filepath.Join(dir, "guest"), tar: filepath.Join(dir, "image.tar"), rules: map[string]bool{}}
	for _, rule := range firewall() {
		lab.rules[rule] = true
	}
	if err := buildGuest(lab.guest, runtime.GOARCH); err != nil {
		return err
	}
	if lab.digest, err = writeLayout(lab.tar, guestImage(lab.guest, runtime.GOARCH, "65534:65534")); err != nil {
		return err
	}
	lab.deaf = filepath.Join(dir, "deaf.tar")
	if lab.deafDigest, err = writeLayout(lab.deaf, deafImage(lab.guest)); err != nil {
		return err
	}
	lab.daemon = newDaemon(Config{DataDir: dir, RunDir: filepath.Join(dir, "run"), Log: zerolog.New(os.Stderr)})
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o711); err != nil {
		return err
	}
	if err := lab.daemon.open(context.Background()); err != nil {
		return err
	}
	defer lab.daemon.stop()
	f()
	return nil
}

// firewall lists the rules of the tables that containers' networks use, as iptables prints them.
func firewall() []string {
	var rules []string
	for _, table := range []string{"nat", "filter"} {
		rules = append(rules, strings.Split(string(must1(exec.Command("iptables", "-w", "-t", table, "-S").CombinedOutput())), "\n")...)
	}
	return rules
}

func needRoot(t *testing.T) {
	t.Helper()
	if lab == nil {
		t.Skip("needs root and containerd")
	}
}

func buildGuest(path, arch string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./testdata/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("guest: %w: %s", err, out)
	}
	return nil
}

// guestImage is an image with the program and little else, as a function of nothing but its arguments.
func guestImage(program, arch, user string) v1.Image {
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return layerTar(program) }, tarball.WithMediaType(ggcr.OCILayer))
	must(err)
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, ggcr.OCIManifestSchema1), ggcr.OCIConfigJSON)
	img, err = mutate.AppendLayers(img, layer)
	must(err)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: arch, OS: "linux", RootFS: must1(img.ConfigFile()).RootFS,
		Config: v1.Config{
			Entrypoint: []string{"/guest"}, Cmd: []string{"id"}, User: user, WorkingDir: "/etc",
			Env:          []string{"PATH=/", "FROM_IMAGE=yes"},
			ExposedPorts: map[string]struct{}{"9000/udp": {}, "8081/tcp": {}, "8080/tcp": {}},
		},
	})
	must(err)
	return img
}

// deafImage asks to be stopped by SIGWINCH, which the program does not notice at any moment of its
// life: a program that ignores SIGTERM would have to do so first.
func deafImage(program string) v1.Image {
	img := guestImage(program, runtime.GOARCH, "65534:65534")
	cfg := must1(img.ConfigFile()).DeepCopy()
	cfg.Config.StopSignal = "SIGWINCH"
	return must1(mutate.ConfigFile(img, cfg))
}

func layerTar(program string) (io.ReadCloser, error) {
	body, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	files := []struct {
		name string
		mode int64
		body string
	}{
		{"guest", 0o755, string(body)},
		{"etc/passwd", 0o644, "root:x:0:0::/:/guest\napp:x:1234:1234::/:/guest\ntoor:x:0:0::/:/guest\n"},
		{"etc/group", 0o644, "root:x:0:\napp:x:1234:\nextra:x:77:app\n"},
	}
	for _, f := range files {
		must(w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.body)), Typeflag: tar.TypeReg}))
		must1(w.Write([]byte(f.body)))
	}
	return io.NopCloser(&buf), w.Close()
}

// writeLayout writes an OCI layout tarball of img and returns the file's digest.
func writeLayout(path string, images ...v1.Image) (string, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), "layout")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return "", err
	}
	for _, img := range images {
		if err := l.AppendImage(img); err != nil {
			return "", err
		}
	}
	if out, err := exec.Command("tar", "-C", dir, "-cf", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("tar: %w: %s", err, out)
	}
	return fileDigest(path), nil
}

func fileDigest(path string) string {
	sum := sha256.Sum256(must1(os.ReadFile(path)))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func must1[T any](v T, err error) T {
	must(err)
	return v
}

// config is for a driver on the shared daemon.
func config(node string) Config {
	return Config{Mode: lab.daemon.socket, DataDir: filepath.Join(lab.dir, node), NodeID: node, Cluster: testCluster,
		RunDir: filepath.Join(lab.dir, "run", node), Log: zerolog.Nop()}
}

// open opens a driver; what its test leaves is removed after it.
func open(t *testing.T, cfg Config) *Driver {
	t.Helper()
	needRoot(t)
	d, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if info := d.Info(t.Context()); !info.Available || info.Reason != "" {
		t.Fatalf("containers do not work here: %s", info.Reason)
	}
	t.Cleanup(func() {
		d.Close()
		last, err := Open(context.Background(), cfg)
		must(err)
		if err := last.Clean(context.Background(), nil); err != nil {
			t.Errorf("Clean: %v", err)
		}
		if err := last.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

// spec runs the guest from the tarball.
func spec(args ...string) sandbox.Spec {
	needed := lab // nil without root, and then no spec is made
	return sandbox.Spec{
		Container: &api.ContainerSpec{Image: needed.digest, Args: args},
		Artifact:  needed.tar, Digest: needed.digest,
	}
}

// deaf runs the guest from the image that does not notice its stop signal.
func deaf(args ...string) sandbox.Spec {
	return sandbox.Spec{Container: &api.ContainerSpec{Image: lab.deafDigest, Args: args}, Artifact: lab.deaf, Digest: lab.deafDigest}
}

// named fills in what the agent would.
func named(t *testing.T, s sandbox.Spec) sandbox.Spec {
	t.Helper()
	s.ID = api.NewID("r")
	s.Workload = api.Ref{Namespace: api.DefaultNamespace, Name: "test"}
	s.LogPath = filepath.Join(t.TempDir(), "log")
	return s
}

func start(t *testing.T, d *Driver, s sandbox.Spec) sandbox.Handle {
	t.Helper()
	h, err := d.Start(t.Context(), s)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	return h
}

// output runs a container to its end and returns its log and exit.
func output(t *testing.T, d *Driver, s sandbox.Spec) (string, sandbox.Exit) {
	t.Helper()
	s = named(t, s)
	h := start(t, d, s)
	select {
	case <-h.Done():
	case <-time.After(patience):
		t.Fatal("the container does not end")
	}
	text, err := os.ReadFile(s.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	must(h.Stop(t.Context(), 0))
	return string(text), h.Exit()
}

// eventually polls for what another process does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func awaitReady(t *testing.T, s sandbox.Spec) {
	t.Helper()
	eventually(t, "ready", func() bool {
		text, _ := os.ReadFile(s.LogPath) // it comes with the container
		return strings.Contains(string(text), "ready")
	})
}
