package mirror

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Every case of one name: what is in the folder, in the bucket and in the base; "" is nothing there. A
// letter is both a file's bytes and its stamp, but that a capital has the same bytes as the small letter
// and another stamp.
func TestPlanOfOneName(t *testing.T) {
	for _, tt := range []struct{ file, object, base, follows, leads string }{
		{"a", "a", "a", "", ""},
		{"A", "a", "a", "note", "note"}, // touched
		{"a", "a", "", "note", "note"},
		{"b", "b", "a", "note", "note"}, // the same change on both sides
		{"", "", "a", "forget", "forget"},
		{"", "a", "", "fetch", "fetch"},
		{"a", "b", "a", "fetch", "fetch"},
		{"a", "", "a", "remove", "remove"},
		{"a", "", "", "remove", "send"},
		{"b", "a", "a", "fetch", "send"},
		{"", "a", "a", "fetch", "delete"},
		{"", "b", "a", "fetch", "fetch"},           // a deletion never takes away what it has not seen
		{"b", "", "a", "remove", "send"},           // on neither side
		{"b", "c", "a", "fetch", "setAside fetch"}, // the bucket keeps the name
		{"b", "c", "", "fetch", "setAside fetch"},  //
	} {
		files, objects, base := world(tt.file, tt.object, tt.base)
		for want, m := range map[string]Mode{tt.follows: {}, "" + tt.leads: {Send: true, Mark: "r1"}} {
			if tt.follows == tt.leads || m.Send == (want == tt.leads) {
				if got := kinds(Plan(files, objects, base, m)); got != want {
					t.Errorf("file %q, object %q, base %q, send %v: %q, want %q", tt.file, tt.object, tt.base, m.Send, got, want)
				}
			}
		}
	}
}

func world(file, object, base string) (map[string]File, map[string]Object, map[string]Base) {
	files, objects, bases := map[string]File{}, map[string]Object{}, map[string]Base{}
	if file != "" {
		files["n"] = File{Stamp: stamp(file), ETag: strings.ToLower(file)}
	}
	if object != "" {
		objects["n"] = Object{ETag: object, Size: 1}
	}
	if base != "" {
		bases["n"] = Base{Stamp: stamp(base), ETag: base}
	}
	return files, objects, bases
}

func stamp(s string) Stamp { return Stamp{Inode: uint64(s[0]), Size: 1} }

func kinds(actions []Action) string {
	var list []string
	for _, a := range actions {
		list = append(list, string(a.Kind))
	}
	return strings.Join(list, " ")
}

// What is being written waits for a later pass.
func TestWhatIsBusyWaits(t *testing.T) {
	files, objects, base := world("b", "a", "a")
	f := files["n"]
	f.Busy = true
	files["n"] = f
	if got := Plan(files, objects, base, Mode{Send: true}); len(got) > 0 {
		t.Error(got)
	}
}

// A file that is set aside keeps its folder and gets a name that a file can have, and another for other bytes.
func TestNamesAside(t *testing.T) {
	for name, want := range map[string]string{
		"a.txt": "a.txt.conflict-r1-01234567", "d/e/a": "d/e/a.conflict-r1-01234567",
		"d/" + strings.Repeat("é", 127): "d/" + strings.Repeat("é", 117) + ".conflict-r1-01234567",
	} {
		got := aside(name, "r1", "0123456789")
		if got != want || Fault(got) != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestKeysThatCannotBeFiles(t *testing.T) {
	objects := map[string]Object{}
	bad := []string{"../x", "a/../b", "..", ".", "a/./b", "/a", "a/", "a//b", "a\x00b", "\xff", strings.Repeat("x", 256), strings.Repeat("x/", 512) + "x", "both"}
	good := []string{"a", "a b", "...", "..a", "both/x", "c/d/e", "\n", strings.Repeat("x", 255), strings.Repeat("x/", 511) + "xx"}
	for _, key := range append(slices.Clone(bad), good...) {
		objects[key] = Object{}
	}
	skipped := Usable(objects)
	for _, key := range bad {
		if skipped[key] == "" {
			t.Errorf("%.20q is to be a file", key)
		}
	}
	if got, want := slices.Sorted(maps.Keys(objects)), slices.Sorted(slices.Values(good)); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// folder is one of those that follow and change a bucket.
type folder struct {
	files map[string]File
	base  map[string]Base
}

// Folders that are changed at will, with their bucket, end up all the same once the changes stop and each has
// had its passes; and what was written last under a name by anybody is found somewhere in the bucket, under
// its own name or aside, unless somebody who had seen it has changed or deleted it.
func TestFoldersConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		objects := map[string]Object{}
		folders := []folder{{map[string]File{}, map[string]Base{}}, {map[string]File{}, map[string]Base{}}, {map[string]File{}, map[string]Base{}}}
		clock := uint64(0)
		unseen := map[string]bool{} // bytes that only their writer knows
		pass := func(i int) {
			f := folders[i]
			for _, a := range Plan(f.files, objects, f.base, Mode{Send: true, Mark: fmt.Sprint("r", i)}) {
				clock++
				apply(a, &f, objects, clock)
			}
		}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			i := rapid.IntRange(0, len(folders)-1).Draw(t, "folder")
			name := rapid.SampledFrom([]string{"a", "b", "d/c"}).Draw(t, "name")
			clock++
			switch rapid.SampledFrom([]string{"write", "delete", "pass", "pass"}).Draw(t, "what") {
			case "write":
				if f, ok := folders[i].files[name]; ok {
					delete(unseen, f.ETag) // whoever writes over it has it
				}
				bytes := fmt.Sprintf("%08d", clock)
				unseen[bytes] = true
				folders[i].files[name] = File{Stamp: Stamp{Inode: clock}, ETag: bytes}
			case "delete":
				if f, ok := folders[i].files[name]; ok {
					delete(unseen, f.ETag)
				}
				delete(folders[i].files, name)
			case "pass":
				pass(i)
			}
		}
		for range 3 {
			for i := range folders {
				pass(i)
			}
		}
		have := map[string]bool{}
		for _, o := range objects {
			have[o.ETag] = true
		}
		for bytes := range unseen {
			if !have[bytes] {
				t.Fatalf("%s is lost: the bucket has %v", bytes, objects)
			}
		}
		for i, f := range folders {
			if len(f.files) != len(objects) {
				t.Fatalf("folder %d has %v, the bucket %v", i, f.files, objects)
			}
			for name, o := range objects {
				if f.files[name].ETag != o.ETag {
					t.Fatalf("folder %d has %v, the bucket %v", i, f.files, objects)
				}
			}
		}
	})
}

// apply does what the shell does.
func apply(a Action, f *folder, objects map[string]Object, clock uint64) {
	note := func() { f.base[a.Name] = Base{f.files[a.Name].Stamp, f.files[a.Name].ETag} }
	switch a.Kind {
	case Forget:
		delete(f.base, a.Name)
	case Note:
		note()
	case SetAside:
		f.files[a.As] = f.files[a.Name]
		delete(f.files, a.Name)
		delete(f.base, a.Name)
	case Remove:
		delete(f.files, a.Name)
		delete(f.base, a.Name)
	case Fetch:
		f.files[a.Name] = File{Stamp: Stamp{Inode: clock}, ETag: objects[a.Name].ETag}
		note()
	case Send:
		objects[a.Name] = Object{ETag: f.files[a.Name].ETag}
		note()
	case Delete:
		delete(objects, a.Name)
		delete(f.base, a.Name)
	}
}
