package objects

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Rows with changes over them read as the rows would that have them.
func TestAnOverlayReadsAsIfTheChangesWereMade(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringOfN(rapid.SampledFrom([]rune{'a', 'b', 'c'}), 0, 3, -1)
		value := rapid.SliceOfN(rapid.Byte(), 0, 2)
		base := mapRows(rapid.MapOf(key, value).Draw(t, "base"))
		o, want := newOverlay(base), maps.Clone(base)
		if want == nil {
			want = mapRows{}
		}
		for _, k := range rapid.SliceOf(key).Draw(t, "changed") {
			c := Change{Key: k}
			if rapid.Bool().Draw(t, "set") {
				c.Value = append([]byte{}, value.Draw(t, "value")...)
				want[k] = c.Value
			} else {
				delete(want, k)
			}
			o.apply([]Change{c})
		}
		from, to, seek := key.Draw(t, "from"), key.Draw(t, "to"), key.Draw(t, "seek")
		if to != "" && to < from {
			from, to = to, from
		}
		seek = max(seek, from)
		if got, want := readOut(t, o, from, to, seek), readOut(t, want, from, to, seek); !slices.Equal(got, want) {
			t.Fatalf("read %q, want %q", got, want)
		}
		got, err := o.Get(seek)
		if have, ok := want[seek]; err != nil || (got != nil) != ok || string(got) != string(have) {
			t.Fatalf("%q is %q, want %q, %v", seek, got, have, err)
		}
	})
}

func readOut(t *rapid.T, rows Rows, from, to, seek string) (out []string) {
	c, err := rows.Range(from, to)
	if err != nil {
		t.Fatal(err)
	}
	for ok := c.Seek(seek); ok; ok = c.Next() {
		value, err := c.Value()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s=%x", c.Key(), value))
	}
	return out
}
