package manifest

import (
	"reflect"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// field is one field of a struct under its JSON name.
type field struct {
	name     string
	index    []int // through embedded structs, as reflect.Value.FieldByIndex takes it
	optional bool
	ignored  bool // set by the cluster: whatever a file says is dropped
}

// fields lists a struct's JSON fields by name; ordered keeps the order of the declaration.
func fields(t reflect.Type) map[string]field {
	out := map[string]field{}
	for _, f := range ordered(t) {
		out[f.name] = f
	}
	return out
}

func ordered(t reflect.Type) (out []field) {
	for i := range t.NumField() {
		name, opts, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if inner := t.Field(i).Type; t.Field(i).Anonymous && name == "" && inner.Kind() == reflect.Struct {
			for _, f := range ordered(inner) {
				f.index = append([]int{i}, f.index...)
				out = append(out, f)
			}
			continue
		}
		if !t.Field(i).IsExported() || name == "-" || name == "" {
			continue
		}
		out = append(out, field{name: name, index: []int{i}, optional: strings.Contains(opts, "omit"),
			ignored: t == reflect.TypeFor[api.Workload]() && name == "status"})
	}
	return out
}

// maxDistance is how many letters may be wrong in a word that still is recognised.
const maxDistance = 2

// Nearest is the candidate that a misspelt word most likely means, "" when none is near. It ignores
// case, and of equally near ones takes the first.
func Nearest(word string, candidates []string) string {
	best, distance := "", maxDistance+1
	for _, c := range candidates {
		if d := levenshtein(strings.ToLower(word), strings.ToLower(c)); d < distance && d < len(c) {
			best, distance = c, d
		}
	}
	return best
}

// levenshtein counts the letters to insert, delete or replace; words that are too long to be near
// cost nothing.
func levenshtein(a, b string) int {
	if len(a)-len(b) > maxDistance || len(b)-len(a) > maxDistance || len(a) > 256 {
		return maxDistance + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
