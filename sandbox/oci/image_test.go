package oci

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

func rubbish(t *testing.T, text string) sandbox.Spec {
	path := filepath.Join(t.TempDir(), "rubbish.tar")
	must(os.WriteFile(path, []byte(text), 0o600))
	return artifact(path)
}

func artifact(path string) sandbox.Spec {
	digest := fileDigest(path)
	return sandbox.Spec{Container: &api.ContainerSpec{Image: digest}, Artifact: path, Digest: digest}
}

func otherArch() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

func wantError(t *testing.T, err error, code api.Code, words ...string) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Fatalf("error %v has code %q, want %q", err, api.CodeOf(err), code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func TestTarballsThatCannotWork(t *testing.T) {
	d := open(t, config(testNode))
	cut := filepath.Join(t.TempDir(), "cut.tar")
	whole := must1(os.ReadFile(lab.tar))
	must(os.WriteFile(cut, whole[:len(whole)/2], 0o600))
	other := filepath.Join(t.TempDir(), "other.tar")
	must1(writeLayout(other, guestImage(lab.guest, otherArch(), "1")))
	tests := map[string]struct {
		spec  sandbox.Spec
		words []string
	}{
		"rubbish":      {rubbish(t, strings.Repeat("no tarball ", 1000)), []string{"no image tarball"}},
		"empty file":   {rubbish(t, ""), []string{"no image tarball"}},
		"cut off":      {artifact(cut), []string{"tarball"}},
		"architecture": {artifact(other), []string{"linux/" + otherArch(), "linux/" + runtime.GOARCH}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := named(t, test.spec)
			wantError(t, d.Prepare(t.Context(), s), api.CodeInvalid, test.words...)
			_, err := d.Start(t.Context(), s)
			wantError(t, err, api.CodeInvalid, test.words...)
		})
	}
}

// What docker save writes, and a tarball for two architectures, run as well.
func TestTarballsThatWork(t *testing.T) {
	d := open(t, config(testNode))
	docker := filepath.Join(t.TempDir(), "docker.tar")
	must(tarball.WriteToFile(docker, must1(name.ParseReference("some/image:1")), guestImage(lab.guest, runtime.GOARCH, "1001")))
	both := filepath.Join(t.TempDir(), "both.tar")
	must1(writeLayout(both, guestImage(lab.guest, otherArch(), "1002"), guestImage(lab.guest, runtime.GOARCH, "1003")))
	for path, uid := range map[string]string{docker: "uid=1001", both: "uid=1003"} {
		if log, _ := output(t, d, artifact(path)); !strings.Contains(log, uid) {
			t.Errorf("%s: the log is %q, want %s", filepath.Base(path), log, uid)
		}
	}
	images := must1(d.client.ListImages(d.scope(t.Context())))
	for _, img := range images {
		if strings.Contains(img.Name(), "some/image") {
			t.Errorf("the tarball's own name %s was taken over", img.Name())
		}
	}
}

// What an image says of its user, folder and command counts, and is refused where it cannot.
func TestImagesThatAskForMore(t *testing.T) {
	d := open(t, config(testNode))
	image := func(change func(*v1.Config)) sandbox.Spec {
		img := guestImage(lab.guest, runtime.GOARCH, "65534")
		cfg := must1(img.ConfigFile()).DeepCopy()
		change(&cfg.Config)
		path := filepath.Join(t.TempDir(), "image.tar")
		must1(writeLayout(path, must1(mutate.ConfigFile(img, cfg))))
		return named(t, artifact(path))
	}
	if log, _ := output(t, d, image(func(c *v1.Config) { c.User = "app" })); !strings.Contains(log, "uid=1234 gid=1234") {
		t.Errorf("a user by name: %q", log)
	}
	for _, user := range []string{"", "root", "0", "toor"} {
		_, err := d.Start(t.Context(), image(func(c *v1.Config) { c.User = user }))
		wantError(t, err, api.CodeInvalid, "spec.container.runAsRoot")
	}
	_, err := d.Start(t.Context(), image(func(c *v1.Config) { c.User = "nobody-knows" }))
	wantError(t, err, api.CodeInvalid, "nobody-knows")
	if log, _ := output(t, d, image(func(c *v1.Config) { c.WorkingDir = "/not/there" })); !strings.Contains(log, "dir=/not/there ") {
		t.Errorf("a folder that the image lacks is made, as others do it: %q", log)
	}
	for _, dir := range []string{"/guest", "relative"} {
		_, err = d.Start(t.Context(), image(func(c *v1.Config) { c.WorkingDir = dir }))
		wantError(t, err, api.CodeInvalid, dir)
	}
	s := image(func(c *v1.Config) { c.WorkingDir, c.ExposedPorts = "", nil })
	if log, _ := output(t, d, s); !strings.Contains(log, "dir=/ ") {
		t.Errorf("an image without folder or port: %q", log)
	}
	s = image(func(c *v1.Config) { c.Entrypoint, c.Cmd = nil, nil })
	_, err = d.Start(t.Context(), s)
	wantError(t, err, api.CodeInvalid, "names no command")
	s.Container.Command, s.Container.Args = []string{"/guest", "exit"}, []string{"5"}
	if _, exit := output(t, d, s); exit.Code != 5 {
		t.Errorf("command and args: %+v", exit)
	}
	wantNothingLeft(t, d)
}

func TestPull(t *testing.T) {
	d := open(t, config(testNode))
	l := must1(net.Listen("tcp", "127.0.0.1:0"))
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	push := func(tag, arch, user string) string {
		ref := l.Addr().String() + "/some/app:" + tag
		must(remote.Write(must1(name.ParseReference(ref, name.Insecure)), guestImage(lab.guest, arch, user)))
		return ref
	}
	pulled := func(ref string) sandbox.Spec {
		return named(t, sandbox.Spec{Container: &api.ContainerSpec{Image: ref}})
	}
	ref := push("1", runtime.GOARCH, "2001")
	must(d.Prepare(t.Context(), pulled(ref)))
	if log, exit := output(t, d, pulled(ref)); !strings.Contains(log, "uid=2001") || exit.Code != 0 {
		t.Errorf("log %q, exit %+v", log, exit)
	}
	wantError(t, d.Prepare(t.Context(), pulled(push("2", otherArch(), "2002"))), api.CodeInvalid, "linux/"+otherArch(), "linux/"+runtime.GOARCH)
	wantError(t, d.Prepare(t.Context(), pulled(l.Addr().String()+"/no/such:1")), api.CodeNotFound, "no/such:1", "does not exist")
	wantError(t, d.Prepare(t.Context(), pulled("No Reference")), api.CodeInvalid, "No Reference")
	latest := push("latest", runtime.GOARCH, "2003")
	must(d.Prepare(t.Context(), pulled(latest)))
	server.Close()
	if err := d.Prepare(t.Context(), pulled(latest)); err != nil {
		t.Errorf("an image that is here does not do while the registry is away: %v", err)
	}
	wantError(t, d.Prepare(t.Context(), pulled(l.Addr().String()+"/other:1")), api.CodeUnavailable, "cannot be pulled")
}

func TestCommand(t *testing.T) {
	img := ocispec.ImageConfig{Entrypoint: []string{"entry"}, Cmd: []string{"cmd"}}
	tests := []struct {
		command, args, want []string
	}{
		{nil, nil, []string{"entry", "cmd"}},
		{nil, []string{"a"}, []string{"entry", "a"}},
		{[]string{"c"}, nil, []string{"c"}},
		{[]string{"c"}, []string{"a"}, []string{"c", "a"}},
	}
	for _, test := range tests {
		got, err := command(img, &api.ContainerSpec{Command: test.command, Args: test.args})
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("command %q args %q: %s%v", test.command, test.args, diff, err)
		}
	}
	_, err := command(ocispec.ImageConfig{}, &api.ContainerSpec{})
	wantError(t, err, api.CodeInvalid, "no command")
}
