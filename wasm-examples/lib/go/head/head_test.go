package head

import (
	"maps"
	"strings"
	"testing"
	"unsafe"
)

func TestFields(t *testing.T) {
	f := Fields("host: a\nx-one: 1\nX-Two: :2 \nx-one: 3")
	for name, want := range map[string]string{"Host": "a", "x-one": "1", "X-TWO": ":2", "none": "", "": ""} {
		if got := f.Get(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
	if n := len(maps.Collect(f.All())); n != 3 {
		t.Errorf("%d names", n)
	}
	f += "\n"
	f.Set("X-One", "4")
	f.Add("y", "\r\nz: 1\n")
	f.Del("HOST")
	if want := Fields("X-Two: :2\nX-One: 4\ny: z: 1\n"); f != want {
		t.Errorf("fields are %q, want %q", f, want)
	}
	for range f.All() {
		break
	}
}

func TestReadAsksAgainForWhatHasNoRoom(t *testing.T) {
	for _, size := range []int{0, 1, len(usual), len(usual) + 1, 60_000} {
		whole, calls := strings.Repeat("x", size), 0
		text, n := Read(func(p *byte, room int32) int32 {
			calls++
			copy(unsafe.Slice(p, room), whole)
			return int32(size)
		})
		if text != whole || int(n) != size || (calls == 2) != (size > len(usual)) {
			t.Errorf("%d bytes: %d, %d are told, in %d calls", size, len(text), n, calls)
		}
	}
	if text, n := Read(func(*byte, int32) int32 { return -5 }); text != "" || n != -5 {
		t.Errorf("of an error: %q, %d", text, n)
	}
}
