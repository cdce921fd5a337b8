package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
)

// layer lists one layer's entries: "etc/" a folder, "a=text" a file, "a->b" a symbolic link,
// "a!" a whiteout, "etc/*" an opaque folder, "a|" a pipe.
func layer(t *testing.T, entries string) string {
	t.Helper()
	dir := t.TempDir()
	for _, e := range strings.Fields(entries) {
		name := filepath.Join(dir, strings.TrimRight(strings.FieldsFunc(e, func(r rune) bool { return strings.ContainsRune("=>", r) })[0], "-!*|"))
		must(os.MkdirAll(filepath.Dir(name), 0o755))
		switch {
		case strings.HasSuffix(e, "/*"):
			must(os.MkdirAll(name, 0o755))
			must(unix.Setxattr(name, "trusted.overlay.opaque", []byte("y"), 0))
		case strings.HasSuffix(e, "/"):
			must(os.MkdirAll(name, 0o755))
		case strings.HasSuffix(e, "!"):
			must(unix.Mknod(name, unix.S_IFCHR, 0))
		case strings.HasSuffix(e, "|"):
			must(unix.Mkfifo(name, 0o600))
		case strings.Contains(e, "->"):
			must(os.Symlink(e[strings.Index(e, "->")+2:], name))
		default:
			must(os.WriteFile(name, []byte(e[strings.Index(e, "=")+1:]), 0o600))
		}
	}
	return dir
}

// A file is read from a container's layers as the container will see it, and nothing outside them.
func TestRootViewReadsAsTheContainerWould(t *testing.T) {
	needRoot(t) // the marks of overlayfs are root's
	outside := filepath.Join(t.TempDir(), "passwd")
	must(os.WriteFile(outside, []byte("outside"), 0o600))
	tests := []struct {
		name   string
		layers []string // the topmost first
		want   string   // the text of etc/passwd, or of the error after "!"
	}{
		{"one layer", []string{"etc/passwd=a"}, "a"},
		{"the upper hides the lower", []string{"etc/passwd=b", "etc/passwd=a"}, "b"},
		{"folders merge", []string{"etc/group=x", "tmp/", "etc/passwd=a"}, "a"},
		{"no such file", []string{"etc/group=x"}, "!does not exist"},
		{"removed", []string{"etc/passwd!", "etc/passwd=a"}, "!does not exist"},
		{"its folder removed", []string{"etc!", "etc/passwd=a"}, "!does not exist"},
		{"its folder made anew", []string{"etc/*", "etc/passwd=a"}, "!does not exist"},
		{"made anew with the file", []string{"etc/* etc/passwd=b", "etc/passwd=a"}, "b"},
		{"a file where the folder was", []string{"etc=x", "etc/passwd=a"}, "!does not exist"},
		{"a folder where a file was", []string{"etc/group=x", "etc=x", "etc/passwd=a"}, "!does not exist"},
		{"a folder where a link was", []string{"etc/group=x", "etc->usr usr/passwd=a"}, "!does not exist"},
		{"a link", []string{"etc/passwd->shadow etc/shadow=a"}, "a"},
		{"a link to the root", []string{"etc/passwd->/nix/passwd nix/passwd=a"}, "a"},
		{"a link into a lower layer", []string{"etc/passwd->../nix/passwd", "nix/passwd=a"}, "a"},
		{"a folder that is a link", []string{"etc->/usr/etc", "usr/etc/passwd=a"}, "a"},
		{"links to links", []string{"etc->/e e->f", "f/passwd->/p p=a"}, "a"},
		{"a link above the root", []string{"etc/passwd->../../../../p p=a"}, "a"},
		{"a link outside", []string{"etc/passwd->" + outside}, "!does not exist"},
		{"a circle", []string{"etc/passwd->passwd"}, "!too many levels"},
		{"a folder", []string{"etc/passwd/"}, "!not a regular file"},
		{"a pipe", []string{"etc/passwd|"}, "!not a regular file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var dirs []string
			for _, l := range tt.layers {
				dirs = append(dirs, layer(t, l))
			}
			got, err := rootView(dirs).read("etc/passwd")
			if text, fails := strings.CutPrefix(tt.want, "!"); fails {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("read %q, %v; want an error with %q", got, err, text)
				}
			} else if err != nil || string(got) != tt.want {
				t.Errorf("read %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestRootViewBoundsWhatItReads(t *testing.T) {
	dir := t.TempDir()
	must(os.WriteFile(filepath.Join(dir, "big"), nil, 0o600))
	must(os.Truncate(filepath.Join(dir, "big"), maxUserFileBytes+1))
	if _, err := (rootView{dir}).read("big"); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a file over the limit gave %v", err)
	}
}

func TestViewOfKnowsTheSnapshotters(t *testing.T) {
	tests := []struct {
		name   string
		mounts []mount.Mount
		want   string
	}{
		{"native", []mount.Mount{{Type: "bind", Source: "/s/1"}}, "/s/1"},
		{"overlayfs", []mount.Mount{{Type: "overlay", Options: []string{"index=off", "workdir=/w", "upperdir=/u", "lowerdir=/b:/a"}}}, "/u /b /a"},
		{"overlayfs, read only", []mount.Mount{{Type: "overlay", Options: []string{"lowerdir=/b:/a"}}}, "/b /a"},
		{"another", []mount.Mount{{Type: "erofs", Source: "/s"}}, ""},
		{"none", nil, ""},
	}
	for _, tt := range tests {
		got, err := viewOf(tt.mounts)
		if strings.Join(got, " ") != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: %v, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}
