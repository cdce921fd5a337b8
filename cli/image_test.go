package cli

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// tarball makes a file of named texts, in the order of the pairs.
func tarball(t testing.TB, pairs ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: pairs[i], Size: int64(len(pairs[i+1])), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return fileOf(t, b.Bytes())
}

func fileOf(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func blob(name string) string { return "blobs/sha256/" + name }

// layout is an OCI layout of one image with this configuration.
func layout(t testing.TB, config string) string {
	return tarball(t, "oci-layout", `{"imageLayoutVersion":"1.0.0"}`,
		"./index.json", `{"manifests":[{"digest":"sha256:aa","platform":{"os":"unknown","architecture":"unknown"}},{"digest":"sha256:index"}]}`,
		blob("aa"), `{"config":{"digest":"sha256:wrong"}}`, blob("wrong"), `{"config":{"ExposedPorts":{"1/tcp":{}}}}`,
		blob("index"), `{"manifests":[{"digest":"sha256:absent"},{"digest":"sha256:manifest","platform":{"os":"linux","architecture":"amd64"}}]}`,
		blob("manifest"), `{"config":{"digest":"sha256:config"},"layers":[]}`, blob("config"), config, blob("layer"), "\x1f\x8b no json")
}

// The port of an image is its lowest TCP port; none is no error.
func TestImagePort(t *testing.T) {
	for config, want := range map[string]int{
		`{"config":{"ExposedPorts":{"9000":{},"8080/tcp":{},"53/udp":{}}}}`:          8080,
		`{"config":{"ExposedPorts":{"53/udp":{}}}}`:                                  0,
		`{"config":{"ExposedPorts":{"0/tcp":{},"70000/tcp":{},"x/tcp":{},"-1":{}}}}`: 0,
		`{"config":{}}`: 0,
		`{}`:            0,
	} {
		for kind, path := range map[string]string{
			"layout": layout(t, config),
			"docker": tarball(t, "abc.json", config, "manifest.json", `[{"Config":"abc.json","Layers":[]}]`),
		} {
			if got, err := imagePort(path); got != want || err != nil {
				t.Errorf("%s of %s: port %d, %v; want %d", kind, config, got, err, want)
			}
		}
	}
}

// A file that is no image says so, and names what would be.
func TestImagePortOfWhatIsNoImage(t *testing.T) {
	whole, err := os.ReadFile(layout(t, `{}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"text": fileOf(t, []byte("this is no tarball, whatever its name says")), "empty": fileOf(t, nil), "cut off": fileOf(t, whole[:700]),
		"other": tarball(t, "a.txt", "hello"), "loop": tarball(t, "index.json", `{"manifests":[{"digest":"sha256:a"}]}`, blob("a"), `{"manifests":[{"digest":"sha256:a"}]}`),
		"no config": tarball(t, "manifest.json", `[{"Config":"../../etc/passwd"}]`),
	} {
		if port, err := imagePort(path); api.CodeOf(err) != api.CodeUnsupMedia || port != 0 {
			t.Errorf("%s: port %d, %v", name, port, err)
		}
	}
	many := make([]string, 0, 2*(maxImageFiles+10))
	for i := range maxImageFiles + 10 {
		many = append(many, fmt.Sprint(i, ".json"), "{}")
	}
	many = append(many, "manifest.json", strings.Repeat(" ", maxImageJSON+1))
	if _, err := imagePort(tarball(t, many...)); api.CodeOf(err) != api.CodeUnsupMedia {
		t.Errorf("a tarball of too many documents: %v", err)
	}
	if _, err := imagePort(filepath.Join(t.TempDir(), "none.tar")); err == nil {
		t.Error("a file that is not there")
	}
}

func FuzzImagePort(f *testing.F) {
	for _, path := range []string{layout(f, `{"config":{"ExposedPorts":{"80/tcp":{}}}}`), tarball(f, "c.json", `{}`, "manifest.json", `[{"Config":"c.json"}]`)} {
		seed, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if port, err := imagePort(fileOf(t, content)); port < 0 || port > 65535 || err != nil && port != 0 {
			t.Errorf("port %d, %v", port, err)
		}
	})
}
