package wasm

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/buckets"
	"github.com/cloudless/cloudless/sandbox/fake"
)

// What testdata/buckets.wat puts where: texts that calls point to, and the area that it answers with.
const (
	textAt = 4096
	areaAt = 1 << 16
	top    = 40 << 16 // the end of its memory
)

// storeSpec is a replica of a guest that calls what it is asked to.
func storeSpec(store sandbox.Storage) sandbox.Spec {
	spec := moduleSpec("buckets", api.ModeHTTP)
	spec.Storage = store
	spec.Buckets = []api.BucketGrant{{Bucket: "sessions", Access: api.AccessReadWrite}, {Bucket: "assets", Access: api.AccessReadOnly}}
	return spec
}

// asked is one call of a function: its letter in buckets.wat and its arguments.
type asked struct {
	name byte
	args []int64
}

// ask has one request make some calls on texts, and gives their results and the area.
func ask(t *testing.T, url, texts string, calls ...asked) (status int, results []int32, area string) {
	t.Helper()
	resp, text, err := fetch(t, http.MethodPost, url, script(texts, calls...))
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, nil, ""
	}
	for range calls {
		results = append(results, int32(number(text[:4])))
		text = text[4:]
	}
	return resp.StatusCode, results, text
}

// script is the request's body that buckets.wat follows.
func script(texts string, calls ...asked) string {
	body := []byte{byte(len(calls))}
	for _, c := range calls {
		body = append(body, c.name)
		for _, a := range append(c.args, make([]int64, 8)...)[:8] {
			body = binary.LittleEndian.AppendUint64(body, uint64(a))
		}
	}
	return string(append(body, make([]byte, textAt-1024-len(body))...)) + texts
}

// pointers gives where the texts lie that ask is given one after the other.
func pointers(texts ...string) (joined string, at [][2]int64) {
	for _, s := range texts {
		at = append(at, [2]int64{int64(textAt + len(joined)), int64(len(s))})
		joined += s
	}
	return joined, at
}

// A guest keeps small values and compares before it sets; it reads and writes blobs as streams, lists and
// describes them.
func TestAGuestUsesItsBuckets(t *testing.T) {
	store := fake.NewStorage("sessions", "assets")
	server, _, log := serve(t, newDriver(t), storeSpec(store))
	texts, at := pointers("sessions", "visits", "41", "42", "blobs/a", "0123456789", "blobs/")
	b, k, one, two, blob, data, prefix := at[0], at[1], at[2], at[3], at[4], at[5], at[6]
	const etag, info, out = areaAt, areaAt + 64, areaAt + 256
	status, got, area := ask(t, server.URL, texts,
		asked{'g', []int64{b[0], b[1], k[0], k[1], out, 100, etag}},               // nothing yet
		asked{'s', []int64{b[0], b[1], k[0], k[1], one[0], one[1], 1, etag}},      // if absent
		asked{'s', []int64{b[0], b[1], k[0], k[1], two[0], two[1], 1, etag}},      // it is there
		asked{'s', []int64{b[0], b[1], k[0], k[1], two[0], two[1], 2, etag}},      // if it is what was set
		asked{'s', []int64{b[0], b[1], k[0], k[1], two[0], two[1], 2, 0}},         // no ETag to compare with
		asked{'g', []int64{b[0], b[1], k[0], k[1], out, 1, 0}},                    // its length is told, and one byte written
		asked{'c', []int64{b[0], b[1], blob[0], blob[1], 0, 0}},                   // handle 1
		asked{'w', []int64{1, data[0], data[1]}},                                  //
		asked{'k', []int64{1, etag}},                                              //
		asked{'o', []int64{b[0], b[1], blob[0], blob[1], 2, 5, info}},             // a range, handle 1
		asked{'r', []int64{1, out + 8, 100}},                                      //
		asked{'r', []int64{1, out + 8, 100}},                                      // its end
		asked{'x', []int64{1}},                                                    //
		asked{'t', []int64{b[0], b[1], k[0], k[1], 0}},                            // is it there?
		asked{'l', []int64{b[0], b[1], prefix[0], prefix[1], 0, 0, out + 64, 99}}, //
		asked{'d', []int64{b[0], b[1], k[0], k[1], 2, etag}},                      // the ETag is the blob's
		asked{'d', []int64{b[0], b[1], k[0], k[1], 0, 0}},                         //
		asked{'t', []int64{b[0], b[1], k[0], k[1], 0}},                            //
	)
	want := "[-2 0 -17 0 -22 2 1 10 0 1 5 0 0 0 19 -116 0 -2]"
	if status != http.StatusOK || fmt.Sprint(got) != want {
		t.Fatalf("status %d\ngot  %v\nwant %s\n%s", status, got, want, log)
	}
	o, err := store.Stat(t.Context(), "sessions", "blobs/a")
	if err != nil {
		t.Fatal(err)
	}
	area = area[64:]
	if size, modified := number64(area), int64(number64(area[8:])); size != 10 || modified != o.Modified.UnixNano() {
		t.Errorf("%d bytes, at %d", size, modified)
	}
	if got := area[16:80]; got != o.ETag+strings.Repeat("\x00", 32) {
		t.Errorf("ETag %q", got)
	}
	area = area[192:]
	if area[:1] != "4" || area[8:13] != "23456" || number(area[64:68]) != 7 || number64(area[68:]) != 10 || area[76:83] != "blobs/a" {
		t.Errorf("%q", area[:90])
	}
}

func number64(s string) uint64 { return binary.LittleEndian.Uint64([]byte(s)) }

// A module that reaches for buckets where the manifest grants none is refused before it starts, and the
// field named.
func TestBucketsThatAreNotGrantedAreRefused(t *testing.T) {
	d := newDriver(t)
	spec := moduleSpec("buckets", api.ModeHTTP)
	spec.Storage = fake.NewStorage()
	for what, err := range map[string]error{"Prepare": d.Prepare(t.Context(), spec), "Start": second(d.Start(t.Context(), spec))} {
		if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "spec.buckets") || !strings.Contains(err.Error(), "cl.blob_") && !strings.Contains(err.Error(), "cl.kv_") {
			t.Errorf("%s: %v", what, err)
		}
	}
	spec.Buckets, spec.Storage = []api.BucketGrant{{Bucket: "sessions"}}, nil
	if _, err := d.Start(t.Context(), spec); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("on a node without storage: %v", err)
	}
}

// Arguments at every edge: what lies outside memory traps whichever parameter it is; strange keys, handles
// and buckets are told as such; no bucket is asked for any of it.
func TestStorageFunctionsWithHostileArguments(t *testing.T) {
	store := fake.NewStorage("sessions", "assets", "foreign")
	store.Before = func(_ context.Context, op, bucket, key string) error {
		t.Errorf("%s of %s/%q", op, bucket, key)
		return nil
	}
	server, _, log := serve(t, newDriver(t), storeSpec(store))
	texts, at := pointers("sessions", "k")
	b, k := at[0], at[1]
	object := []int64{b[0], b[1], k[0], k[1]}
	pairs := map[byte][]int{'g': {0, 2, 4}, 's': {0, 2, 4}, 'd': {0, 2}, 'l': {0, 2, 4, 6}, 'o': {0, 2}, 'c': {0, 2}, 't': {0, 2}, 'r': {1}, 'w': {1}}
	for name, places := range pairs {
		for _, place := range places {
			for _, bad := range [][2]int64{{top, 1}, {top - 1, 2}, {0, top + 1}, {1<<32 - 1, 1}, {1<<32 - 1, 1<<32 - 1}, {1, 1<<32 - 1}, {1 << 31, 1 << 31}} {
				args := append([]int64(nil), object...)
				args = append(args, make([]int64, 4)...)
				args[place], args[place+1] = bad[0], bad[1]
				if status, got, _ := ask(t, server.URL, texts, asked{name, args}); status != http.StatusBadGateway {
					t.Errorf("%c with %d bytes at %d: status %d, %v", name, bad[1], bad[0], status, got)
				}
			}
		}
	}
	for name, place := range map[byte]int{'g': 6, 's': 7, 'd': 5, 'c': 5, 'k': 1} { // areas of an ETag
		for _, ptr := range []int64{top, top - 63, 1<<32 - 1, 1 << 31} {
			args := append(append([]int64(nil), object...), 0, 0, 0, 0)
			args[place] = ptr
			if status, got, _ := ask(t, server.URL, texts, asked{name, args}); status != http.StatusBadGateway {
				t.Errorf("%c with an ETag at %d: status %d, %v", name, ptr, status, got)
			}
		}
	}
	for _, ptr := range []int64{top, top - 79} {
		if status, got, _ := ask(t, server.URL, texts, asked{'t', append(append([]int64(nil), object...), ptr)}); status != http.StatusBadGateway {
			t.Errorf("t with %d: status %d, %v", ptr, status, got)
		}
	}
	if !strings.Contains(log.String(), "outside memory") {
		t.Error(log)
	}
	for _, handle := range []int64{0, 1, 16, 17, 1 << 31, 1<<32 - 1} {
		if _, got, _ := ask(t, server.URL, texts, asked{'r', []int64{handle}}, asked{'w', []int64{handle}}, asked{'k', []int64{handle}}, asked{'x', []int64{handle}}); fmt.Sprint(got) != "[-9 -9 -9 -9]" {
			t.Errorf("handle %d: %v", handle, got)
		}
	}
}

// Keys of any kind reach the store as they are, or nothing does; a foreign bucket, an oversize value and a
// flood of lists have their bounds.
func TestStorageFunctionsKeepTheirBounds(t *testing.T) {
	store := fake.NewStorage("sessions", "assets", "foreign")
	server, _, log := serve(t, newDriver(t), storeSpec(store))
	for key, want := range map[string]int32{
		"a/../../b": 0, "/": 0, "..": 0, "\x00": 0, "a\nb\r": 0, "\u202e": 0, strings.Repeat("k", api.MaxObjectKeyBytes): 0,
		"": -22, "\xff": -22, "a\xc0\xaf": -22, strings.Repeat("k", api.MaxObjectKeyBytes+1): -22, strings.Repeat("k", 20_000): -22,
	} {
		texts, at := pointers("sessions", key)
		_, got, _ := ask(t, server.URL, texts, asked{'s', []int64{at[0][0], at[0][1], at[1][0], at[1][1], 0, 1}})
		if got[0] != want {
			t.Errorf("key %.20q: %d, want %d", key, got[0], want)
		}
		if _, err := store.Stat(t.Context(), "sessions", key); (err == nil) != (want == 0) {
			t.Errorf("key %.20q: %v", key, err)
		}
	}
	for bucket, want := range map[string]int32{"foreign": -13, "": -13, "sessions\x00": -13, strings.Repeat("s", 10_000): -13, "assets": -13} {
		texts, at := pointers(bucket, "k")
		_, got, _ := ask(t, server.URL, texts, asked{'s', []int64{at[0][0], at[0][1], at[1][0], at[1][1], 0, 1}})
		if got[0] != want {
			t.Errorf("bucket %.20q: %d, want %d", bucket, got[0], want)
		}
	}
	if !strings.Contains(log.String(), "cloudless: storage: no entry of spec.buckets names bucket \"foreign\"") {
		t.Error(log)
	}
	texts, at := pointers("sessions", "k")
	b, k := at[0], at[1]
	_, got, _ := ask(t, server.URL, texts,
		asked{'s', []int64{b[0], b[1], k[0], k[1], 0, buckets.MaxValueBytes}},
		asked{'s', []int64{b[0], b[1], k[0], k[1], 0, buckets.MaxValueBytes + 1}},
		asked{'l', []int64{b[0], b[1], 0, 0, 0, 0, areaAt, 12}},
	)
	if fmt.Sprint(got) != "[0 -27 -34]" {
		t.Error(got)
	}
	flood := make([]asked, 40)
	for i := range flood {
		flood[i] = asked{'l', []int64{b[0], b[1], 0, 0, 0, 0, 1 << 17, top - 1<<17}}
	}
	if status, got, _ := ask(t, server.URL, texts, flood...); status != http.StatusOK || got[39] != got[0] || got[0] < 12 {
		t.Errorf("status %d, %v", status, got)
	}
}

// What a request has under way ends with it, at its deadline as when its client leaves, and what it did not
// commit is not written.
func TestStorageEndsWithItsRequest(t *testing.T) {
	store := fake.NewStorage("sessions")
	left := make(chan struct{})
	store.Before = func(ctx context.Context, op, _, _ string) error {
		if op != "stat" {
			return nil
		}
		<-ctx.Done()
		left <- struct{}{}
		return ctx.Err()
	}
	spec := storeSpec(store)
	spec.Wasm.Timeout = api.Duration(300 * time.Millisecond)
	server, _, _ := serve(t, newDriver(t), spec)
	texts, at := pointers("sessions", "k")
	b, k := at[0], at[1]
	cut := make(chan error)
	go func() {
		_, _, err := fetch(t, http.MethodPost, server.URL, script(texts,
			asked{'c', []int64{b[0], b[1], k[0], k[1], 0, 0}}, asked{'w', []int64{1, 0, 100}}, asked{'t', []int64{b[0], b[1], k[0], k[1], 0}}))
		cut <- err
	}()
	<-left
	if err := <-cut; err == nil { // the guest had begun to answer
		t.Error("the answer was not cut at the deadline")
	}
	store.Before = nil
	if _, err := store.Stat(t.Context(), "sessions", "k"); api.CodeOf(err) != api.CodeNotFound {
		t.Error("a blob was written that nobody committed")
	}
	for range 2 { // handles are of one call
		if _, got, _ := ask(t, server.URL, texts, asked{'c', []int64{b[0], b[1], k[0], k[1], 0, 0}}); got[0] != 1 {
			t.Errorf("handle %d: one was left by another request", got[0])
		}
	}
}
