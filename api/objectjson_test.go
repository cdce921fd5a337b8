package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// fill gives every field below v a value of its own, those of embedded structs too.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"a": fmt.Sprint(*n), "b": ""}))
	case reflect.Slice:
		v.SetBytes([]byte{byte(*n)})
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	default:
		panic(v.Kind())
	}
}

func wholeObject() *Object {
	o, n := &Object{}, 0
	fill(reflect.ValueOf(o).Elem(), &n)
	return o
}

// sameJSON compares what an object becomes with what encoding/json makes of it.
func sameJSON(t *testing.T, o *Object) []byte {
	t.Helper()
	want, wantErr := json.Marshal(o)
	got, err := o.AppendJSON([]byte("before"))
	if (err == nil) != (wantErr == nil) || err == nil && string(got) != "before"+string(want) {
		t.Fatalf("%s, %v\nencoding/json: %s, %v", got, err, want, wantErr)
	}
	return want
}

// TestObjectsAreWrittenAsJSONWritesThem holds every field that an object has or will have.
func TestObjectsAreWrittenAsJSONWritesThem(t *testing.T) {
	text := sameJSON(t, wholeObject())
	sameJSON(t, &Object{})
	sameJSON(t, &Object{Modified: time.Date(12_000, 1, 1, 0, 0, 0, 0, time.UTC)}) // which JSON cannot say
	for _, key := range []string{`a"b`, `a\b`, "<&>", "\x00\n\x7f", "ä/\u2028", "\xff"} {
		sameJSON(t, &Object{Key: key, ObjectHead: ObjectHead{Metadata: map[string]string{key: key}}})
	}
	var back Object
	if err := back.DecodeJSON(text); err != nil || !reflect.DeepEqual(&back, wholeObject()) {
		t.Fatalf("%v\n%+v\n%+v", err, back, wholeObject())
	}
}

// TestNothingOfAListIsLeftToJSON holds that the fast way is the one that is gone: for all that a list shows.
func TestNothingOfAListIsLeftToJSON(t *testing.T) {
	o := wholeObject()
	o.Inline, o.Manifest = nil, nil
	o.Key = "ä 'key'/<with>&" // in other writers' JSON; ours has escapes in its place
	text := bytes.ReplaceAll(sameJSON(t, o), []byte(`\u003cwith\u003e\u0026`), []byte("<with>&"))
	r, read := plainReader{all: string(text)}, Object{}
	if r.object(&read); !r.end() || !reflect.DeepEqual(&read, o) {
		t.Fatalf("given up %v, %q is left: %+v", r.odd, r.all[r.at:], read)
	}
}

func TestListsAreWrittenAndReadAsJSONDoes(t *testing.T) {
	type plain ObjectList
	for _, l := range []ObjectList{
		{}, {Items: []*Object{}}, {Items: []*Object{wholeObject()}, Index: 1},
		{Items: []*Object{wholeObject(), {}}, Prefixes: []string{"a/", "<b>/"}, Index: 1<<63 + 1, Cursor: "\x01"},
	} {
		want, err := json.Marshal(plain(l))
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.MarshalJSON()
		if err != nil || string(got) != string(want) {
			t.Fatalf("%v\n%s\n%s", err, got, want)
		}
		sameList(t, got)
	}
}

// sameList reads a list both ways.
func sameList(t *testing.T, text []byte) {
	t.Helper()
	type plain ObjectList
	var want plain
	var got ObjectList
	wantErr, err := json.Unmarshal(text, &want), got.UnmarshalJSON(text)
	if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(plain(got), want) {
		t.Fatalf("%q\n%+v, %v\nencoding/json: %+v, %v", text, got, err, want, wantErr)
	}
}

// FuzzObjectJSON reads any text as encoding/json does, and writes it so again.
func FuzzObjectJSON(f *testing.F) {
	whole, _ := json.Marshal(wholeObject())
	for _, text := range []string{string(whole), `{}`, `null`, ``, `{`, `{"key"`, `{"key":"`, `{"key":"a",}`, `{"key":"a"}}`, `{"KEY":"a"}`, `{"new":[1]}`, `{"key":"a\u0041","size":-1}`, `{"key":"` + "\xff\t" + `"}`,
		`{"size":01}`, `{"size":-0}`, `{"size":1.0}`, `{"size":9223372036854775808}`, `{"index":-1}`, `{"index":-0}`, `{"index":18446744073709551615}`, `{"tags":{},"metadata":{"a":"b","a":"c"}}`, `{"tags":null}`, `{"tags":{"a":null}}`,
		`{"checksum":{"algorithm":"a"},"checksum":{"value":"b","composite":false}}`, `{"modified":"2026-01-02T03:04:05.0006Z"}`, `{"modified":"2026-01-02"}`, `{"modified":null}`, `{"modified":"2026-01-02T24:00:00+25:00"}`, ` {"key": "a"} `, "{}\f"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want, got Object
		wantErr, err := json.Unmarshal(text, &want), got.DecodeJSON(text)
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q\n%+v, %v\nencoding/json: %+v, %v", text, got, err, want, wantErr)
		}
		if err == nil {
			sameJSON(t, &got)
		}
		sameList(t, fmt.Appendf(nil, `{"items":[%s],"prefixes":["a"],"index":7}`, text))
		sameList(t, text)
	})
}

func listOfThousand() (l ObjectList) {
	for range 1000 {
		l.Items = append(l.Items, &Object{Bucket: "many", Key: "folder-0000001/key-01", Size: 1 << 20, ETag: fmt.Sprintf("%032d", 0), SHA256: fmt.Sprintf("%064d", 0),
			ObjectHead: ObjectHead{ContentType: "image/png", Checksum: &Checksum{Algorithm: "CRC32", Value: "AAAAAA=="}}, Modified: time.Unix(1, 1).UTC(), Index: 12345, Terms: Terms{Replicas: 3}})
	}
	return l
}

func BenchmarkListJSON(b *testing.B) {
	l := listOfThousand()
	text, _ := l.MarshalJSON()
	type plain ObjectList
	b.Run("write by encoding/json", func(b *testing.B) {
		for b.Loop() {
			if _, err := json.Marshal(plain(l)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read by encoding/json", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if err := json.Unmarshal(text, new(plain)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if _, err := l.MarshalJSON(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if err := new(ObjectList).UnmarshalJSON(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
