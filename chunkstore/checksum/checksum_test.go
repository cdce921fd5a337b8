package checksum

import (
	"encoding/hex"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
)

// The check values of the catalogues: what each gives for "123456789".
func TestKnownValues(t *testing.T) {
	for name, want := range map[string]string{
		CRC32: "cbf43926", CRC32C: "e3069283", CRC64NVME: "ae8b14860a799888",
		SHA1:   "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
		SHA256: "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
	} {
		h := New(name)
		h.Write([]byte("123456789"))
		if got := hex.EncodeToString(h.Sum(nil)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if New("MD5") != nil {
		t.Error("MD5 is none of them")
	}
}

func sum(name string, b []byte) string {
	h := New(name)
	h.Write(b)
	return Text(h)
}

// However an object was cut into parts, its CRC is that of its bytes.
func TestCombinedIsThatOfTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{CRC32, CRC32C, CRC64NVME}).Draw(t, "algorithm")
		var whole []byte
		var parts []Part
		for _, b := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 1, 6).Draw(t, "parts") {
			whole = append(whole, b...)
			parts = append(parts, Part{sum(name, b), int64(len(b))})
		}
		got, err := Combine(api.Checksum{Algorithm: name}, parts)
		if err != nil || got != sum(name, whole) {
			t.Fatalf("%s, %v, want %s", got, err, sum(name, whole))
		}
	})
}

func TestComposite(t *testing.T) {
	for _, name := range []string{CRC32, CRC32C, SHA1, SHA256} {
		h := New(name)
		var parts []Part
		for i := range 3 {
			one := New(name)
			one.Write(fmt.Append(nil, i))
			h.Write(one.Sum(nil))
			parts = append(parts, Part{Text(one), 1})
		}
		got, err := Combine(api.Checksum{Algorithm: name, Composite: true}, parts)
		if want := Text(h) + "-3"; err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []api.Checksum{
		{Algorithm: "MD5", Value: sum(CRC32, nil)}, {Algorithm: CRC32}, {Algorithm: CRC32, Value: "AAAA"}, {Algorithm: CRC32, Value: "AAAAAB=="},
		{Algorithm: SHA1, Value: sum(SHA256, nil)}, {Algorithm: CRC32, Value: sum(CRC32, nil) + "-2"},
	} {
		if err := Check(&c); api.ReasonOf(err) != api.ReasonChecksum {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, plan := range []api.Checksum{{Algorithm: "MD5"}, {Algorithm: CRC64NVME, Composite: true}, {Algorithm: SHA1}, {Algorithm: SHA256}} {
		if _, err := Combine(plan, nil); err == nil {
			t.Errorf("%+v was taken", plan)
		}
	}
	if _, err := Combine(api.Checksum{Algorithm: CRC32}, []Part{{sum(SHA1, nil), 1}}); err == nil {
		t.Error("a part with another checksum was taken")
	}
}
