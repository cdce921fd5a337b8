package objects

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
)

// names are what a page shows, common prefixes with a mark.
func names(p *Page) (out []string) {
	for _, o := range p.Objects {
		out = append(out, o.Key)
	}
	for _, c := range p.Prefixes {
		out = append(out, c+" …")
	}
	slices.Sort(out)
	return out
}

func TestList(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	w.must(bucketNamed("assets2"))
	for _, key := range []string{"a", "a/b", "a/b/c", "a/d", "a0", "b/", "b/x", "\xf4\x8f\xbf\xbf", "ü/x"} {
		w.must(small(key, "x", Condition{}))
	}
	w.must(Command{Put: &Put{Bucket: "assets2", Key: "foreign"}})
	for _, c := range []struct {
		q      Query
		want   []string
		cursor string
	}{
		{Query{}, []string{"a", "a/b", "a/b/c", "a/d", "a0", "b/", "b/x", "ü/x", "\xf4\x8f\xbf\xbf"}, ""},
		{Query{Delimiter: "/"}, []string{"a", "a/ …", "a0", "b/ …", "ü/ …", "\xf4\x8f\xbf\xbf"}, ""},
		{Query{Prefix: "a/"}, []string{"a/b", "a/b/c", "a/d"}, ""},
		{Query{Prefix: "a/", Delimiter: "/"}, []string{"a/b", "a/b/ …", "a/d"}, ""},
		{Query{Prefix: "a", Delimiter: "/"}, []string{"a", "a/ …", "a0"}, ""},
		{Query{Prefix: "b/", Delimiter: "/"}, []string{"b/", "b/x"}, ""},
		{Query{Prefix: "z"}, nil, ""},
		{Query{Delimiter: "/b"}, []string{"a", "a/b …", "a/d", "a0", "b/", "b/x", "ü/x", "\xf4\x8f\xbf\xbf"}, ""},
		{Query{Limit: 2}, []string{"a", "a/b"}, "a/b"},
		{Query{Delimiter: "/", Limit: 2}, []string{"a", "a/ …"}, "a/"},
		{Query{Delimiter: "/", Limit: 2, After: "a/"}, []string{"a0", "b/ …"}, "b/"},
		{Query{Delimiter: "/", After: "a/b/c"}, []string{"a/ …", "a0", "b/ …", "ü/ …", "\xf4\x8f\xbf\xbf"}, ""},
		{Query{Prefix: "a/", After: "Z"}, []string{"a/b", "a/b/c", "a/d"}, ""},
		{Query{Prefix: "a/", After: "b"}, nil, ""},
		{Query{After: "b/", Limit: 1}, []string{"b/x"}, "b/x"},
		{Query{After: "ü/x"}, []string{"\xf4\x8f\xbf\xbf"}, ""},
	} {
		c.q.Bucket = "assets"
		page, err := List(w.rows, c.q)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(c.want)
		if d := cmp.Diff(c.want, names(page)); d != "" || page.Cursor != c.cursor {
			t.Errorf("%+v: cursor %q, want %q: %s", c.q, page.Cursor, c.cursor, d)
		}
	}
	if _, err := List(w.rows, Query{Bucket: "nothing"}); api.CodeOf(err) != api.CodeNotFound {
		t.Error(err)
	}
	for limit, ok := range map[int]bool{-1: false, 1: true, api.MaxListLimit: true, api.MaxListLimit + 1: false} {
		if _, err := List(w.rows, Query{Bucket: "assets", Limit: limit}); (err == nil) != ok {
			t.Errorf("a limit of %d: %v", limit, err)
		}
	}
}

// Whatever the keys, pages put together are what going through all keys gives, over a map and over Pebble.
func TestPagesMakeUpTheList(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		s := openStore(t, vfs.NewMem())
		defer closeStore(t, s)
		cmds := []Command{at(bucketNamed("assets"))}
		keys := rapid.SliceOfDistinct(keyGen(), func(k string) string { return k }).Draw(rt, "keys")
		for _, k := range keys {
			cmds = append(cmds, at(small(k, "", Condition{})))
		}
		for _, c := range cmds {
			w.must(c)
		}
		apply(t, s, 1, cmds...)
		v := s.View()
		defer closeStore(t, v)
		q := Query{
			Bucket: "assets", Prefix: rapid.StringOfN(rapid.SampledFrom(odd), 0, 2, -1).Draw(rt, "prefix"),
			Delimiter: rapid.SampledFrom([]string{"", "/", "//", "\x00"}).Draw(rt, "delimiter"),
			Limit:     rapid.IntRange(1, 4).Draw(rt, "limit"),
		}
		want := expected(keys, q)
		for name, rows := range map[string]Rows{"a map": w.rows, "Pebble": v} {
			if got := allPages(rt, rows, q); !slices.Equal(got, want) {
				rt.Fatalf("%s: %q, want %q", name, got, want)
			}
		}
	})
}

var odd = []rune{'a', 'b', '/', '.', 0, 1, 0xff, '\U0010ffff'}

func keyGen() *rapid.Generator[string] { return rapid.StringOfN(rapid.SampledFrom(odd), 1, 6, -1) }

func expected(keys []string, q Query) (out []string) {
	for _, k := range keys {
		if !strings.HasPrefix(k, q.Prefix) {
			continue
		}
		if before, _, found := strings.Cut(k[len(q.Prefix):], q.Delimiter); found && q.Delimiter != "" {
			k = q.Prefix + before + q.Delimiter + " …"
		}
		out = append(out, k)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func allPages(t *rapid.T, rows Rows, q Query) (out []string) {
	for {
		page, err := List(rows, q)
		if err != nil {
			t.Fatal(err)
		}
		got := names(page)
		if len(got) > q.Limit || page.Cursor != "" && len(got) < q.Limit {
			t.Fatalf("a page of %d, limit %d", len(got), q.Limit)
		}
		out = append(out, got...)
		if q.After = page.Cursor; q.After == "" {
			slices.Sort(out)
			return out
		}
	}
}

func TestAfterAPrefix(t *testing.T) {
	for prefix, want := range map[string]string{"": "", "a": "b", "a\xff": "b", "\xff\xff": "", "a\x00": "a\x01"} {
		if got := after(prefix); got != want {
			t.Errorf("%q: %q, want %q", prefix, got, want)
		}
	}
}

// Escaped keys sort as keys do, whatever follows them, and none is the beginning of another.
func TestEscapedKeysSortAsKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := keyGen().Draw(t, "a"), keyGen().Draw(t, "b")
		x, y := escape(a)+"z", escape(b)+"a"
		if a != b && strings.Compare(a, b) != strings.Compare(x, y) {
			t.Fatalf("%q and %q sort as %q and %q", a, b, x, y)
		}
		if a != b && strings.HasPrefix(escape(a), escape(b)) {
			t.Fatalf("%q begins with %q", escape(a), escape(b))
		}
	})
}

func ExampleQuery() {
	q := Query{Prefix: "photos/", Delimiter: "/"}
	fmt.Println(commonPrefix(q, "photos/2026/a.jpg"))
	// Output: photos/2026/
}
