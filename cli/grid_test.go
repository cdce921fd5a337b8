package cli

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestColumnsStandUnderEachOther(t *testing.T) {
	var out bytes.Buffer
	g := grid{e: &Env{Out: &out}, titles: []string{"KEY", "SIZE"}}
	if err := g.print([][]string{{"a", "1"}, {"日本.jpg", "2"}, {"e\u0301te\u0301", "3"}, {"🌊", "4"}, {"\x1b[31m", "5"}}); err != nil {
		t.Fatal(err)
	}
	want := "KEY       SIZE\na         1\n日本.jpg  2\ne\u0301te\u0301       3\n🌊        4\n [31m     5\n"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}

func TestColumnsSortByWhatTheyShow(t *testing.T) {
	for _, want := range [][]string{
		{"2", "9", "10", "a", "b"},
		{"0 B", "900 B", "1.5 KiB", "2.0 MiB", "1.0 GiB"},
		{"5s", "90s", "3m", "100m", "2h", "3d"},
		{"2026-01-02T00:00:00Z", "2026-11-01T00:00:00Z"},
		{"9%", "100%", "", "-", "n-2", "n-3"},
	} {
		got := slices.Clone(want)
		slices.Reverse(got)
		slices.SortFunc(got, natural)
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	top := []string{"", "5%", "10%"}
	slices.SortFunc(top, heavier)
	if d := cmp.Diff([]string{"10%", "5%", ""}, top); d != "" {
		t.Error(d)
	}
}

// A line that is drawn over stays one line of the terminal, whatever is in it.
func TestProgressIsOneLine(t *testing.T) {
	master, terminal := openPTY(t)
	setSize(t, master, 24, 10)
	e := &Env{Err: terminal, Now: time.Now}
	for text, want := range map[string]string{"0123456789": "0123456789", "0123456789a": "0123456789", "日本日本日本": "日本日本日", "a日本日本日本": "a日本日本", "a\nb\x1b": "a b "} {
		e.progress().line("%s", text)
		want = "\r\x1b[K" + want
		got := make([]byte, len(want))
		if _, err := io.ReadFull(master, got); err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%q: got %q", text, got)
		}
	}
}
