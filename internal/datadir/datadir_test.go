package datadir

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloudless/cloudless/api"
)

func TestOnlyTheOwnerMayEnter(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for _, was := range []os.FileMode{0, 0o755} { // new, and one that was open to all
		if was != 0 {
			if err := os.Chmod(dir, was); err != nil {
				t.Fatal(err)
			}
		}
		if err := Make(dir); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("the folder has mode %v: %v", st.Mode(), err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left in it: %v %v", left, err)
		}
	}
}

// A file where the folder should be stands for all that cannot be written to: rights do not stop the
// superuser, who often runs tests.
func TestAFolderThatCannotBeUsedIsToldWithARemedy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{path, filepath.Join(path, "below")} {
		e := api.AsError(Make(dir))
		if e == nil || e.Code != api.CodeInvalid || e.Hint == "" {
			t.Errorf("%s: %+v", dir, e)
		}
	}
}

func TestAFileIsReplacedWholeAndForItsOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := os.WriteFile(path, []byte("an old and longer content"), 0o644); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := WriteFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "new" {
		t.Errorf("reads %q: %v", got, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", st.Mode(), err)
	}
	buf := make([]byte, 64) // who had the old file open still reads the old one: no part was overwritten
	if n, err := old.Read(buf); err != nil || string(buf[:n]) != "an old and longer content" {
		t.Errorf("the old file reads %q: %v", buf[:n], err)
	}
	onlyFile(t, dir, "key")
}

func TestAFailedWriteKeepsTheOldAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := os.Mkdir(path, 0o700); err != nil { // a folder cannot be replaced by a file
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("new")); err == nil {
		t.Error("no error")
	}
	onlyFile(t, dir, "key")
	if err := WriteFile(filepath.Join(dir, "absent", "key"), nil); err == nil {
		t.Error("no error for a folder that is not there")
	}
}

func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("the folder holds %v: %v", entries, err)
	}
}

// A folder is one process's alone, and free again when that one lets go.
func TestASecondHolderOfAFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	release, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(dir)
	if e := api.AsError(err); api.CodeOf(err) != api.CodeConflict || e.Hint == "" {
		t.Errorf("the second got %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(dir)
	if err != nil {
		t.Fatalf("after it was let go: %v", err)
	}
	if err := again(); err != nil {
		t.Error(err)
	}
}

// What a later version wrote is left alone; a folder from before there was a mark gets one.
func TestALaterFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 {
		if err := CheckFormat(dir); err != nil {
			t.Fatalf("start %d: %v", i+1, err)
		}
	}
	path := filepath.Join(dir, "format")
	for content, want := range map[string]api.Code{fmt.Sprint(Format): "", fmt.Sprint(Format + 1): api.CodeConflict, "0": api.CodeInternal, "new": api.CodeInternal, "": api.CodeInternal} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := CheckFormat(dir); api.CodeOf(err) != want {
			t.Errorf("%q: %v", content, err)
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != content {
			t.Errorf("%q became %q, %v", content, left, err)
		}
	}
}
