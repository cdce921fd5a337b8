package split

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/api"
)

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 3}).Read(b)
	return b
}

// lengths cuts data up.
func lengths(c Cutter, data []byte) (out []int) {
	for len(data) > 0 {
		n := c.Next(data[:min(len(data), c.Max())])
		out = append(out, n)
		data = data[n:]
	}
	return out
}

func TestWhichCutter(t *testing.T) {
	for _, c := range []struct {
		size             int64
		small, byContent bool
		want             Cutter
	}{
		{0, false, false, Cutter{Normal, false}},
		{-1, false, false, Cutter{Normal, false}},
		{LargeObject, false, false, Cutter{Normal, false}},
		{LargeObject + 1, false, false, Cutter{Large, false}},
		{LargeObject + 1, false, true, Cutter{Normal, true}},
		{LargeObject + 1, true, false, Cutter{Small, false}},
		{5, true, true, Cutter{Small, true}},
	} {
		got := CutterFor(c.size, c.small, c.byContent)
		if got != c.want || got.Validate() != nil || got.Max() > MaxChunkBytes {
			t.Errorf("%+v: %+v, largest %d: %v", c, got, got.Max(), got.Validate())
		}
	}
	for _, c := range []Cutter{{}, {Size: Large, ByContent: true}, {Size: Normal + 1}} {
		if err := c.Validate(); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestFixedSize(t *testing.T) {
	c := Cutter{Size: Small}
	for n, want := range map[int][]int{0: nil, 1: {1}, Small - 1: {Small - 1}, Small: {Small}, Small + 1: {Small, 1}, 2 * Small: {Small, Small}} {
		if got := lengths(c, make([]byte, n)); !slices.Equal(got, want) {
			t.Errorf("%d bytes: %v, want %v", n, got, want)
		}
	}
}

// Where chunks end must never change.
func TestGoldenCuts(t *testing.T) {
	got := lengths(Cutter{Small, true}, noise(1, 3<<20))
	want := []int{314979, 183491, 311237, 291377, 313549, 285900, 293808, 264496, 218198, 348741, 155898, 164054}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestSizesOfCutsByContent(t *testing.T) {
	data := noise(2, 64<<20)
	got := lengths(Cutter{Small, true}, data)
	for _, n := range got[:len(got)-1] {
		if n < Small/minShare || n > Small*maxShare {
			t.Errorf("a chunk of %d bytes", n)
		}
	}
	if average := len(data) / len(got); average < Small*3/4 || average > Small*5/4 {
		t.Errorf("the average is %d", average)
	}
	for _, n := range lengths(Cutter{Small, true}, make([]byte, 4<<20)) {
		if n != Small*maxShare {
			t.Errorf("zeros are cut after %d bytes", n)
		}
	}
	for _, n := range []int{1, Small / minShare, Small/minShare + 1} {
		if got := lengths(Cutter{Small, true}, noise(3, n)); len(got) != 1 {
			t.Errorf("%d bytes are cut into %v", n, got)
		}
	}
}

// What is inserted into an object changes the chunks around it alone.
func TestAnInsertionChangesFewChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := noise(rapid.Uint64().Draw(t, "seed"), 2<<20)
		at := rapid.IntRange(0, len(data)).Draw(t, "at")
		changed := slices.Concat(data[:at], noise(9, rapid.IntRange(1, 1000).Draw(t, "n")), data[at:])
		c := Cutter{Small, true}
		known := map[[32]byte]bool{}
		for _, ch := range chunks(c, data) {
			known[sha256.Sum256(ch)] = true
		}
		fresh := 0
		for _, ch := range chunks(c, changed) {
			if !known[sha256.Sum256(ch)] {
				fresh++
			}
		}
		if fresh > 6 {
			t.Fatalf("%d chunks are new", fresh)
		}
	})
}

func chunks(c Cutter, data []byte) (out [][]byte) {
	for _, n := range lengths(c, data) {
		out = append(out, data[:n])
		data = data[n:]
	}
	return out
}

func manifestOf(data []byte, c Cutter) *Manifest {
	m := &Manifest{MD5: md5.Sum(data), SHA256: sha256.Sum256(data)}
	for _, ch := range chunks(c, data) {
		m.Chunks = append(m.Chunks, Chunk{sha256.Sum256(ch), len(ch)})
	}
	return m
}

func TestManifestHasItsGoldenBytes(t *testing.T) {
	m := &Manifest{Parts: 2}
	m.MD5[0], m.SHA256[0] = 0xaa, 0xbb
	m.Chunks = append(m.Chunks, Chunk{[32]byte{1}, 1 << 20})
	m.Chunks = append(m.Chunks, Chunk{[32]byte{2}, 5})
	zeros := func(n int) string { return strings.Repeat("00", n) }
	want := hex.EncodeToString([]byte(manifestMagic)) + "02" + "02" + "aa" + zeros(15) + "bb" + zeros(31) +
		"808040" + "01" + zeros(31) + "05" + "02" + zeros(31) + "9738914f"
	if got := hex.EncodeToString(m.Encode()); got != want {
		t.Errorf("manifest is\n%s, want\n%s", got, want)
	}
	if m.ETag() != "aa"+zeros(15)+"-2" || m.Size() != 1<<20+5 || m.Chunks[0].Name() != "sha256:01"+zeros(31) {
		t.Errorf("etag %s, size %d, name %s", m.ETag(), m.Size(), m.Chunks[0].Name())
	}
}

// A manifest of parts says how long each was, those of no bytes too, and has its own bytes.
func TestPartsOfAManifest(t *testing.T) {
	m := &Manifest{Chunks: []Chunk{{[32]byte{1}, 10}, {[32]byte{2}, 20}, {[32]byte{3}, 30}}, Parts: 4, Ends: []int{2, 2, 3, 3}}
	got, err := Decode(m.Encode())
	if err != nil || !slices.Equal(got.Ends, m.Ends) || !slices.Equal(got.PartSizes(), []int64{30, 0, 30, 0}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, want := hex.EncodeToString(m.Encode()[:6]), hex.EncodeToString([]byte(partsMagic))+"0304"; got != want {
		t.Errorf("begins with %s, want %s", got, want)
	}
	if got, want := hex.EncodeToString(m.Encode()[54:58]), "02000100"; got != want {
		t.Errorf("has parts %s, want %s", got, want)
	}
	for _, unknown := range []*Manifest{{}, {Parts: 2}} {
		if unknown.PartSizes() != nil {
			t.Errorf("%+v has parts", unknown)
		}
	}
}

func TestManifestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, Small, 5*Small + 7} {
		data := noise(4, n)
		m := manifestOf(data, Cutter{Size: Small})
		got, err := Decode(m.Encode())
		if err != nil || !bytes.Equal(got.Encode(), m.Encode()) || got.Size() != int64(n) || got.ETag() != hex.EncodeToString(m.MD5[:]) {
			t.Errorf("%d bytes: %+v, %v", n, got, err)
		}
	}
}

func TestADamagedManifestIsRefused(t *testing.T) {
	good := manifestOf(noise(5, 3*Small), Cutter{Size: Small}).Encode()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := Decode(bad); api.CodeOf(err) != api.CodeInternal {
			t.Errorf("a bit in byte %d: %v", i, err)
		}
		if _, err := Decode(good[:i]); err == nil {
			t.Errorf("cut after %d bytes", i)
		}
	}
	for name, b := range map[string][]byte{
		"an empty chunk":      (&Manifest{Chunks: []Chunk{{Bytes: 0}}}).Encode(),
		"a chunk too large":   (&Manifest{Chunks: []Chunk{{Bytes: MaxChunkBytes + 1}}}).Encode(),
		"too many parts":      (&Manifest{Parts: maxParts + 1}).Encode(),
		"parts of nothing":    (&Manifest{Ends: []int{}}).Encode(),
		"a chunk of no part":  (&Manifest{Chunks: []Chunk{{Bytes: 1}, {Bytes: 1}}, Parts: 1, Ends: []int{1}}).Encode(),
		"a part too many":     (&Manifest{Chunks: []Chunk{{Bytes: 1}}, Parts: 2, Ends: []int{1}}).Encode(),
		"a part of more":      (&Manifest{Chunks: []Chunk{{Bytes: 1}}, Parts: 2, Ends: []int{0, 2}}).Encode(),
		"more chunks than is": resum(append(slices.Concat([]byte(manifestMagic), []byte{0x80, 0x80, 0x40, 0}), make([]byte, 48+4)...)),
	} {
		if _, err := Decode(b); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	m := &Manifest{Chunks: []Chunk{{Bytes: MaxChunkBytes}}, Parts: maxParts}
	if _, err := Decode(m.Encode()); err != nil {
		t.Errorf("at the limits: %v", err)
	}
}

// Every range of an object is what its pieces put together give.
func TestRanges(t *testing.T) {
	data := noise(6, 1000)
	m := &Manifest{}
	var parts [][]byte
	for rest, i := data, 1; len(rest) > 0; i++ {
		n := min(len(rest), 30*i)
		parts = append(parts, rest[:n])
		m.Chunks = append(m.Chunks, Chunk{sha256.Sum256(rest[:n]), n})
		rest = rest[n:]
	}
	rapid.Check(t, func(t *rapid.T) {
		offset, n := rapid.Int64Range(-5, 1100).Draw(t, "offset"), rapid.Int64Range(-5, 1100).Draw(t, "n")
		var got []byte
		for p := range m.Range(offset, n) {
			if p.From >= p.To || p.Digest != m.Chunks[p.Index].Digest {
				t.Fatalf("piece %+v", p)
			}
			got = append(got, parts[p.Index][p.From:p.To]...)
		}
		var want []byte
		if offset >= 0 && n > 0 && offset < 1000 {
			want = data[offset:min(1000, offset+n)]
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, want %d", len(got), len(want))
		}
	})
	for range m.Range(0, 1<<62) {
		break // whoever has enough may stop
	}
}

// resum gives bytes a right checksum, so that what comes behind it is tested.
func resum(b []byte) []byte {
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
	return b
}

func FuzzDecode(f *testing.F) {
	f.Add((&Manifest{}).Encode())
	f.Add(manifestOf(noise(7, 3*Small), Cutter{Size: Small}).Encode())
	f.Add((&Manifest{Chunks: []Chunk{{Bytes: 1}}, Parts: 2, Ends: []int{0, 1}}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 {
			b = resum(b)
		}
		m, err := Decode(b)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Encode(), b) {
			t.Error("it is not written as it was read")
		}
		var sum int64
		for p := range m.Range(0, m.Size()) {
			sum += int64(p.To - p.From)
		}
		if sum != m.Size() {
			t.Errorf("pieces of %d bytes make %d", sum, m.Size())
		}
	})
}

// Whatever the bytes are, a cut lies within them and within the bounds.
func FuzzCut(f *testing.F) {
	f.Add(noise(8, 4096), 100)
	f.Fuzz(func(t *testing.T, b []byte, repeat int) {
		if len(b) == 0 || repeat < 0 || repeat > 1000 {
			return
		}
		data := bytes.Repeat(b, repeat%100+1)
		n := Cutter{Small, true}.Next(data)
		if n < 1 || n > len(data) || n > Small*maxShare || n < len(data) && n < Small/minShare {
			t.Errorf("%d of %d", n, len(data))
		}
	})
}

func BenchmarkCut(b *testing.B) {
	data := noise(10, 16<<20)
	for _, size := range []int{Small, Normal} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				lengths(Cutter{size, true}, data)
			}
		})
	}
}

// What cutting by content saves: versions of a file, each with a few insertions.
func BenchmarkDedupRatio(b *testing.B) {
	for _, c := range []Cutter{{Small, false}, {Small, true}} {
		b.Run(fmt.Sprintf("byContent=%v", c.ByContent), func(b *testing.B) {
			var ratio float64
			for b.Loop() {
				ratio = dedupRatio(c)
			}
			b.ReportMetric(ratio, "dedup-ratio")
		})
	}
}

func dedupRatio(c Cutter) float64 {
	data, put, stored := noise(11, 16<<20), 0, 0
	known := map[[32]byte]bool{}
	for version := range 5 {
		for _, ch := range chunks(c, data) {
			put += len(ch)
			if sum := sha256.Sum256(ch); !known[sum] {
				known[sum] = true
				stored += len(ch)
			}
		}
		at := (version + 1) * 3 << 20
		data = slices.Concat(data[:at], noise(uint64(20+version), 100), data[at:])
	}
	return float64(put) / float64(stored)
}
