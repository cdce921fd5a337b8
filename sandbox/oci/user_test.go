package oci

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	ggcr "github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/cloudless/cloudless/api"
)

// A user is looked up in the image's files alone, by name or number, and a number need not be there.
func TestUserLookup(t *testing.T) {
	dir := layer(t, "etc/")
	must(os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0::/:/sh\napp:x:1234:55::/:/sh\nbig:x:4294967296:1::/:/sh\n"), 0o600))
	must(os.WriteFile(filepath.Join(dir, "etc/group"), []byte("root:x:0:app\nstaff:x:55:\nextra:x:77:app,root\napp:x:9:app\n"), 0o600))
	full, err := lookUsers(rootView{dir})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		in    accounts
		user  string
		want  string // uid:gid [groups], or the error after "!"
		about string
	}{
		{full, "", "0:0 [0 77]", "root unless the image says otherwise"},
		{full, "app", "1234:55 [55 0 77]", "a name; the group of the same name is not an additional one"},
		{full, "1234", "1234:55 [55 0 77]", "a number that is known"},
		{full, "4321", "4321:0 [0]", "a number that is not"},
		{full, "app:extra", "1234:77 [77 0]", "another group"},
		{full, "app:88", "1234:88 [88 0 77]", "another group by number"},
		{full, "4321:88", "4321:88 [88]", "numbers"},
		{full, "nobody", `!no user "nobody"`, "an unknown name"},
		{full, "app:nogroup", `!no group "nogroup"`, "an unknown group"},
		{full, "big", `!no user "big"`, "an id that runc cannot take"},
		{full, "2147483648", "!out of range", "a number that runc cannot take"},
		{full, "-1", "!out of range", "a number below zero"},
		{full, "1:99999999999999999999", "!out of range", "a number beyond all integers"},
		{accounts{}, "", "0:0 [0]", "an image without the files"},
		{accounts{}, "7:8", "7:8 [8]", "numbers without the files"},
		{accounts{}, "app", `!no user "app"`, "a name without the files"},
	}
	for _, tt := range tests {
		who, err := tt.in.find(tt.user)
		got := fmt.Sprintf("%d:%d %v", who.UID, who.GID, who.AdditionalGids)
		if text, fails := strings.CutPrefix(tt.want, "!"); fails && (err == nil || !strings.Contains(err.Error(), text)) || !fails && (err != nil || got != tt.want) {
			t.Errorf("%s: %q is %s, %v; want %s", tt.about, tt.user, got, err, tt.want)
		}
	}
}

// What an upper layer of the image replaces or removes counts, under the daemon's own snapshotter.
func TestUserComesFromTheTopLayer(t *testing.T) {
	d := open(t, config(testNode))
	tests := []struct {
		name, user string
		files      map[string]string // of a second layer
		want       string            // in /proc/self/status, or in the error after "!"
	}{
		{"as below", "app", map[string]string{"other": "x"}, "Uid:\t1234"},
		{"replaced", "app", map[string]string{"etc/passwd": "app:x:4321:4321::/:/guest\n"}, "Uid:\t4321"},
		{"removed", "app", map[string]string{"etc/.wh.passwd": ""}, `!no user "app"`},
		{"made anew", "app", map[string]string{"etc/.wh..wh..opq": ""}, `!no user "app"`},
		{"by number", "1234:5", map[string]string{"etc/.wh.passwd": ""}, "Gid:\t5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image.tar")
			digest, err := writeLayout(path, onTop(tt.files))
			if err != nil {
				t.Fatal(err)
			}
			s := spec("show", "/proc/self/status")
			s.Container.User, s.Artifact, s.Digest, s.Container.Image = tt.user, path, digest, digest
			if text, fails := strings.CutPrefix(tt.want, "!"); fails {
				_, err := d.Start(t.Context(), named(t, s))
				wantError(t, err, api.CodeInvalid, text)
			} else if log, _ := output(t, d, s); !strings.Contains(log, tt.want) {
				t.Errorf("log has no %q:\n%s", tt.want, log)
			}
		})
	}
}

// onTop is the guest's image with one more layer.
func onTop(files map[string]string) v1.Image {
	l := must1(tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for name, body := range files {
			must(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}))
			must1(w.Write([]byte(body)))
		}
		return io.NopCloser(&buf), w.Close()
	}, tarball.WithMediaType(ggcr.OCILayer)))
	return must1(mutate.AppendLayers(guestImage(lab.guest, runtime.GOARCH, "65534:65534"), l))
}
