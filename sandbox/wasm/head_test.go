package wasm

import (
	"reflect"
	"strings"
	"testing"
)

// TestAnAnswersHeadIsReadAnewUnlessItIsTheSame: neither a bad one, nor what others did with the last, is seen
// by the next.
func TestAnAnswersHeadIsReadAnewUnlessItIsTheSame(t *testing.T) {
	h := newHeads()
	for _, step := range []struct {
		text string
		want map[string][]string // nil: refused
	}{
		{"", map[string][]string{}},
		{"a: 1\nb: 2\nb: 3\nb: 4\n", map[string][]string{"A": {"1"}, "B": {"2", "3", "4"}}},
		{"a: 1\nb: 2\nb: 3\nb: 4\n", map[string][]string{"A": {"1"}, "B": {"2", "3", "4"}}},
		{"a: 1\nb", nil},
		{"a: 1\nb", nil},
		{"", map[string][]string{}},
		{"c: 1\nkeep-alive: x\n", map[string][]string{"C": {"1"}}},
		{"x: " + strings.Repeat("y", maxSpareAnswer), map[string][]string{"X": {strings.Repeat("y", maxSpareAnswer)}}},
	} {
		got, err := h.answerOf([]byte(step.text))
		if (err == nil) != (step.want != nil) || err == nil && !reflect.DeepEqual(map[string][]string(got), step.want) {
			t.Errorf("%.40q is %.80v, %v", step.text, got, err)
		}
		for _, values := range got {
			_ = append(values, "of another")
		}
	}
	if !h.clear() || h.known || len(h.answers) > 0 {
		t.Error("a long head is kept")
	}
}
