package api

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// plainReader reads JSON as our own programs write it: no white space, no escapes, no null. At anything
// else it gives up, and whoever uses it leaves the whole text to encoding/json; so it may know little and
// still read what encoding/json reads. The strings that it gives are parts of the text.
type plainReader struct {
	all string
	at  int  // how far it was read
	odd bool // given up
}

// end tells whether all of the text was read.
func (r *plainReader) end() bool { return !r.odd && r.at == len(r.all) }

// take passes over what comes next if it is c.
func (r *plainReader) take(c byte) bool {
	if r.at == len(r.all) || r.all[r.at] != c {
		return false
	}
	r.at++
	return true
}

func (r *plainReader) expect(c byte) {
	if !r.take(c) {
		r.odd = true
	}
}

// fields reads an object: value is to read that of the field of a name.
func (r *plainReader) fields(value func(name string)) {
	r.items('{', '}', func() {
		name := r.text()
		r.expect(':')
		if !r.odd {
			value(name)
		}
	})
}

// items reads what commas part.
func (r *plainReader) items(first, last byte, item func()) {
	if r.expect(first); r.take(last) {
		return
	}
	for !r.odd {
		if item(); !r.take(',') {
			r.expect(last)
			return
		}
	}
}

func (r *plainReader) text() string {
	if !r.take('"') {
		r.odd = true
		return ""
	}
	n := max(0, strings.IndexByte(r.all[r.at:], '"'))
	s := r.all[r.at : r.at+n]
	r.at += n
	if r.expect('"'); !plainText(s) && !readableText(s) {
		r.odd = true
	}
	return s
}

// readableText tells whether a string in JSON is what stands between its quotes.
func readableText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == '\\' {
			return false
		}
	}
	return utf8.ValidString(s)
}

// plainDigits are those of a number that no integer is too small for.
const plainDigits = 18

func (r *plainReader) number() int64 {
	negative := r.take('-')
	text := r.all[r.at:]
	var n int64
	i := 0
	for ; i < len(text) && i < plainDigits && '0' <= text[i] && text[i] <= '9'; i++ {
		n = 10*n + int64(text[i]-'0')
	}
	if i == 0 || i > 1 && text[0] == '0' {
		r.odd = true
	}
	r.at += i
	if negative {
		return -n
	}
	return n
}

func (r *plainReader) index() uint64 {
	r.odd = r.odd || strings.HasPrefix(r.all[r.at:], "-")
	return uint64(r.number())
}

// yes reads true; false is what nobody writes.
func (r *plainReader) yes() bool {
	const yes = "true"
	if !strings.HasPrefix(r.all[r.at:], yes) {
		r.odd = true
		return false
	}
	r.at += len(yes)
	return true
}

func (r *plainReader) time() (t time.Time) {
	if text := r.text(); t.UnmarshalText([]byte(text)) != nil {
		r.odd = true
	}
	return t
}

func (r *plainReader) strings() []string {
	list := []string{}
	r.items('[', ']', func() { list = append(list, r.text()) })
	return list
}

// texts reads a map, into the one that is there.
func (r *plainReader) texts(m map[string]string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	r.fields(func(name string) { m[name] = r.text() })
	return m
}

// plainWriter writes JSON to the byte as encoding/json does.
type plainWriter struct {
	b   []byte
	err error
}

// name begins a field.
func (w *plainWriter) name(name string) {
	if last := w.b[len(w.b)-1]; last != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(append(append(w.b, '"'), name...), `":`...)
}

func (w *plainWriter) text(name, s string) {
	w.name(name)
	if !plainText(s) {
		w.value(s)
		return
	}
	w.b = append(append(append(w.b, '"'), s...), '"')
}

// textIf leaves "" out.
func (w *plainWriter) textIf(name, s string) {
	if s != "" {
		w.text(name, s)
	}
}

func (w *plainWriter) number(name string, n int64) {
	w.name(name)
	w.b = strconv.AppendInt(w.b, n, 10)
}

func (w *plainWriter) index(name string, n uint64) {
	w.name(name)
	w.b = strconv.AppendUint(w.b, n, 10)
}

func (w *plainWriter) time(name string, t time.Time) {
	w.name(name)
	w.b = append(w.b, '"')
	if b, err := t.AppendText(w.b); err != nil {
		w.err = err
	} else {
		w.b = append(b, '"')
	}
}

// textsIf leaves an empty map out.
func (w *plainWriter) textsIf(name string, m map[string]string) {
	if len(m) > 0 {
		w.name(name)
		w.value(m)
	}
}

// bytesIf leaves no bytes out.
func (w *plainWriter) bytesIf(name string, b []byte) {
	if len(b) > 0 {
		w.name(name)
		w.value(b)
	}
}

// value leaves one to encoding/json.
func (w *plainWriter) value(v any) {
	text, err := json.Marshal(v)
	if err != nil {
		w.err = err
	}
	w.b = append(w.b, text...)
}

// plain are the bytes of a string that encoding/json writes as they are.
var plain = func() (is [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		is[c] = !strings.ContainsRune(`"\\<>&`, c)
	}
	return is
}()

func plainText(s string) bool {
	for i := range len(s) {
		if !plain[s[i]] {
			return false
		}
	}
	return true
}
