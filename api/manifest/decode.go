package manifest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/cloudless/cloudless/api"
)

// maxNodes bounds the values of one document with its aliases expanded. A manifest of the largest
// size has fewer; only aliases of aliases come near it.
const maxNodes = 1 << 17

// maxErrors bounds what is reported of one document; nobody reads more.
const maxErrors = 100

// decoder fills Go values from YAML nodes. It goes on after an error, and remembers where each path
// was written so that rules broken later can be placed.
type decoder struct {
	src   *source
	errs  Errors
	where map[string]*yaml.Node
	bad   map[string]bool
	nodes int
}

func newDecoder(src *source) *decoder {
	return &decoder{src: src, where: map[string]*yaml.Node{}, bad: map[string]bool{}}
}

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	if len(d.errs) >= maxErrors {
		d.bad[""] = true
		return
	}
	d.bad[path] = true
	d.errs = append(d.errs, d.src.problem(n, path, format, args...))
}

// failed tells whether path, something above it or something below it did not decode.
func (d *decoder) failed(path string) bool {
	path, _, _ = strings.Cut(path, " ")
	for p := path; p != ""; p = parent(p) {
		if d.bad[p] {
			return true
		}
	}
	for bad := range d.bad {
		if strings.HasPrefix(bad, path+".") || strings.HasPrefix(bad, path+"[") {
			return true
		}
	}
	return d.bad[""]
}

// nearest is the node of path, or of the closest path above it that is written.
func (d *decoder) nearest(path string, root *yaml.Node) *yaml.Node {
	path, _, _ = strings.Cut(path, " ")
	for p := path; p != ""; p = parent(p) {
		if n, ok := d.where[p]; ok {
			return n
		}
	}
	return root
}

// parent cuts the last element off a path.
func parent(path string) string {
	if i := strings.LastIndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return ""
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

var (
	timeType        = reflect.TypeFor[time.Time]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

// value decodes n into v, which is settable. Null leaves v as it is, like an absent field.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, depth int) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
		depth++
	}
	if len(d.errs) >= maxErrors {
		return
	}
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.fail(n, "", "expands to more than %d values: write fewer aliases", maxNodes)
		}
		return
	}
	if depth > api.MaxManifestDepth {
		d.fail(n, path, "is nested deeper than %d", api.MaxManifestDepth)
		return
	}
	if path != "" {
		d.where[path] = n
	}
	if isNull(n) {
		return
	}
	d.kind(n, v, path, depth)
}

func (d *decoder) kind(n *yaml.Node, v reflect.Value, path string, depth int) {
	if reflect.PointerTo(v.Type()).Implements(unmarshalerType) {
		d.text(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(v.Type().Elem())
		d.value(n, fresh.Elem(), path, depth)
		v.Set(fresh)
	case reflect.Struct:
		d.structure(n, v, path, depth)
	case reflect.Map:
		d.mapping(n, v, path, depth)
	case reflect.Slice:
		d.sequence(n, v, path, depth)
	default:
		d.scalar(n, v, path)
	}
}

// pairs calls visit for each key of a mapping that occurs for the first time.
func (d *decoder) pairs(n *yaml.Node, path string, visit func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "is %s, a mapping of fields is wanted", describe(n))
		return
	}
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch first, twice := seen[key.Value]; {
		case key.Tag == "!!merge":
			d.fail(key, path, "merge keys (<<) are not accepted: write the fields out")
		case key.Kind != yaml.ScalarNode:
			d.fail(key, path, "has %s as a key, text is wanted", describe(key))
		case twice:
			d.fail(key, join(path, key.Value), "is written twice, first at line %d", first.Line)
		default:
			seen[key.Value] = key
			visit(key, n.Content[i+1])
		}
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string, depth int) {
	known := fields(v.Type())
	d.pairs(n, path, func(key, value *yaml.Node) {
		f, ok := known[key.Value]
		switch {
		case !ok:
			d.unknown(key, path, known)
		case f.ignored:
		default:
			d.value(value, v.FieldByIndex(f.index), join(path, key.Value), depth+1)
		}
	})
}

func (d *decoder) unknown(key *yaml.Node, path string, known map[string]field) {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	if near := Nearest(key.Value, names); near != "" {
		d.fail(key, join(path, key.Value), "unknown field %q: did you mean %s?", key.Value, near)
		return
	}
	d.fail(key, join(path, key.Value), "unknown field %q: known are %s", key.Value, strings.Join(names, ", "))
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string, depth int) {
	m := reflect.MakeMap(v.Type())
	d.pairs(n, path, func(key, value *yaml.Node) {
		item := reflect.New(v.Type().Elem()).Elem()
		if isNull(value) && item.Kind() == reflect.String {
			d.fail(value, join(path, key.Value), `is empty: write "" for no text`)
			return
		}
		d.value(value, item, join(path, key.Value), depth+1)
		m.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), item)
	})
	if m.Len() > 0 {
		v.Set(m)
	}
}

func (d *decoder) sequence(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "is %s, a list is wanted", describe(n))
		return
	}
	if len(n.Content) == 0 {
		return // an empty list means what an absent one means, and compares equal
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		d.value(item, list.Index(i), path+"["+strconv.Itoa(i)+"]", depth+1)
	}
	v.Set(list)
}

// text decodes quantities, durations and times by their own JSON methods.
func (d *decoder) text(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!bool" {
		d.fail(n, path, "is %s, %s is wanted", describe(n), wanted(v.Type()))
		return
	}
	quoted, err := json.Marshal(n.Value)
	if err == nil {
		err = v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(quoted)
	}
	switch {
	case err != nil && v.Type() == timeType:
		d.fail(n, path, "%q is not a time such as 2026-01-31T12:00:00Z", n.Value)
	case err != nil:
		d.fail(n, path, "%v", err)
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "is %s, %s is wanted", describe(n), wanted(v.Type()))
		return
	}
	switch v.Kind() {
	case reflect.String:
		if n.Tag != "!!str" && n.Tag != "!!timestamp" {
			d.fail(n, path, "is %s, text is wanted: write it in quotes, \"%s\"", describe(n), n.Value)
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		if n.Tag != "!!bool" {
			d.fail(n, path, "is %s, true or false is wanted", describe(n))
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	default:
		d.number(n, v, path)
	}
}

// number takes plain decimal only: 010 is 8 to some readers of YAML and 10 to others.
func (d *decoder) number(n *yaml.Node, v reflect.Value, path string) {
	if n.Tag != "!!int" && (n.Tag != "!!float" || !v.CanFloat()) {
		d.fail(n, path, "is %s, %s is wanted", describe(n), wanted(v.Type()))
		return
	}
	digits := strings.TrimLeft(n.Value, "+-")
	ambiguous := len(digits) > 1 && digits[0] == '0' && digits[1] != '.'
	var err error
	switch bits := v.Type().Bits(); {
	case ambiguous:
		err = strconv.ErrSyntax
	case v.CanInt():
		var i int64
		i, err = strconv.ParseInt(n.Value, 10, bits)
		v.SetInt(i)
	case v.CanUint():
		var u uint64
		u, err = strconv.ParseUint(n.Value, 10, bits)
		v.SetUint(u)
	default:
		var f float64
		f, err = strconv.ParseFloat(n.Value, bits)
		v.SetFloat(f)
	}
	if err != nil {
		d.fail(n, path, "%s is not %s in plain decimal digits", n.Value, wanted(v.Type()))
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.Tag {
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return "the truth value " + n.Value
	case "!!null":
		return "empty"
	}
	return fmt.Sprintf("the text %q", n.Value)
}

func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[api.MilliCPU]():
		return "an amount of cpu such as 250m"
	case reflect.TypeFor[api.Bytes]():
		return "a size such as 64Mi"
	case reflect.TypeFor[api.Duration]():
		return "a duration such as 30s"
	case timeType:
		return "a time"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}
