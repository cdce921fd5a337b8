package wasm

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/sandbox/rewrite"
)

const someDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// FuzzDescription: a description is what was written, or an error that says damaged.
func FuzzDescription(f *testing.F) {
	whole, err := (&description{Digest: someDigest, Facts: facts{Exports: "it exports f"}, Imports: []importedFunc{{"cl", "log", typeEntry}}}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	for _, text := range []string{"", "\n", "{}", `{"digest":3}`, `{"digest":"` + someDigest + `","code":{"path":"../../x"}}`, `{"digest":"sha256:11"}`} {
		f.Add([]byte(text))
		f.Add([]byte(sumOf([]byte(text)) + "\n" + text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := decodeDescription(data, someDigest)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Errorf("%q: %v", data, err)
			}
			return
		}
		again, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		if same, err := decodeDescription(again, someDigest); err != nil || !cmp.Equal(d, same) {
			t.Errorf("%q: %v", data, err)
		}
	})
}

func TestWhatIsDescribedComesBack(t *testing.T) {
	d := &description{
		Digest: someDigest, Facts: facts{Entries: entryTypes{3: typeEntry}, Exports: "it exports _start", SharesMemory: true, MemoryPages: 2},
		Imports: []importedFunc{{"cl", "log", "(i32) -> ()"}}, Metered: rewrite.Output{Fuel: "cl:fuel", Globals: []string{"a", "b"}},
		Module: fileSum{Bytes: 3, Sum: "1"}, Code: fileSum{Path: "wazero-dev/ab", Bytes: 4, Sum: "2"},
	}
	text, err := d.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeDescription(text, someDigest); err != nil || !cmp.Equal(d, got) {
		t.Errorf("%s, error %v", cmp.Diff(d, got), err)
	}
	if _, err := decodeDescription(text, "sha256:1"); !errors.Is(err, errDamaged) {
		t.Errorf("as another module's: %v", err)
	}
	d.Code.Path = "../elsewhere"
	if text, err = d.encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeDescription(text, someDigest); !errors.Is(err, errDamaged) {
		t.Errorf("with code outside of the entry: %v", err)
	}
}
