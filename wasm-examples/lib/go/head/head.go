// Package head has the fields of requests and responses as the host has them: a text of "name: value"
// lines. It is searched and added to as it is, since most requests read few fields, and a map would have
// to be built anew for each. Nor has it a seed that a stranger could learn.
package head

import (
	"iter"
	"strings"
)

// Fields are "name: value" lines. Names are the same in upper and lower case.
type Fields string

// All are the fields in their order.
func (f Fields) All() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for line := range strings.Lines(string(f)) {
			name, value, ok := strings.Cut(line, ":")
			if ok && !yield(name, strings.TrimSpace(value)) {
				return
			}
		}
	}
}

// Get is the first value of a field, empty if there is none.
func (f Fields) Get(name string) string {
	for n, value := range f.All() {
		if strings.EqualFold(n, name) {
			return value
		}
	}
	return ""
}

// Add adds a field. Line breaks in a value, which would begin another field, become spaces.
func (f *Fields) Add(name, value string) {
	if strings.ContainsAny(value, "\r\n") {
		value = strings.NewReplacer("\r", " ", "\n", " ").Replace(value)
	}
	*f = Fields(string(*f) + name + ": " + value + "\n")
}

// Del takes all fields of a name out.
func (f *Fields) Del(name string) {
	var rest Fields
	for n, value := range f.All() {
		if !strings.EqualFold(n, name) {
			rest.Add(n, value)
		}
	}
	*f = rest
}

// Set puts one field in place of all of its name.
func (f *Fields) Set(name, value string) {
	f.Del(name)
	f.Add(name, value)
}

// usual is room for most heads, so that what is kept of one takes no more than it is long.
var usual [2048]byte

// Read asks the host for a head, whose whole length it tells: a second call gets what the first had no room
// for. A negative length is an error, told as it is.
func Read(ask func(*byte, int32) int32) (text string, size int32) {
	room := usual[:]
	size = ask(&room[0], int32(len(room)))
	if int(size) > len(room) {
		room = make([]byte, size)
		size = ask(&room[0], size)
	}
	return string(room[:max(size, 0)]), size
}
