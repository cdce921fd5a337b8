package linear

import (
	"fmt"
	"testing"
)

// shapes are guests: what their image holds and how many pages a request writes to.
var shapes = []struct {
	name  string
	size  uint64
	pages int
}{{"AssemblyScript", 64 * kib, 2}, {"C", 128 * kib, 3}, {"Rust", 1088 * kib, 6}, {"Go", 3 * mib, 100}, {"large", 16 * mib, 100}}

// instance is a region of an image that is filled with something.
func instance(b *testing.B, size uint64) (*Arena, *Image, *Region) {
	b.Helper()
	a := newArena(b)
	r := open(b, a, size, size, nil)
	for i := uint64(0); i < size; i += 64 {
		r.Bytes()[i] = byte(i>>6) | 1
	}
	im, err := r.Image()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closeAll(b, im) })
	if err := r.Restore(im); err != nil {
		b.Fatal(err)
	}
	return a, im, r
}

// touch writes to so many pages, as a request does.
func touch(r *Region, pages int) {
	stride := r.pages() / uint64(pages) * pageBytes
	for p := range uint64(pages) {
		r.Bytes()[p*stride]++
	}
}

// BenchmarkRestore compares ways to put an image back, by what a request and its restore cost.
func BenchmarkRestore(b *testing.B) {
	ways := []struct {
		name    string
		restore func(r *Region, im *Image) error
	}{
		{"restore", (*Region).Restore},
		{"drop", func(r *Region, _ *Image) error { return r.Trim() }},
		{"copy all", func(r *Region, im *Image) error { copy(r.Bytes(), im.Bytes()); return nil }},
		{"compare all", func(r *Region, _ *Image) error {
			r.putBack(0, r.pages())
			return nil
		}},
	}
	for _, s := range shapes {
		for _, w := range ways {
			b.Run(fmt.Sprintf("%s %dK %d pages/%s", s.name, s.size>>10, s.pages, w.name), func(b *testing.B) {
				_, im, r := instance(b, s.size)
				for b.Loop() {
					touch(r, s.pages)
					if err := w.restore(r, im); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkFresh is a region, growth, a touch of each 64 KiB, and the end.
func BenchmarkFresh(b *testing.B) {
	for _, size := range []uint64{64 * kib, mib} {
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			a := newArena(b)
			for b.Loop() {
				r, err := a.Region(16*mib, nil)
				if err != nil {
					b.Fatal(err)
				}
				for m := r.Grow(size); len(m) > 0; m = m[64*kib:] {
					m[0] = 1
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFromImage is the same with a region that begins as an image.
func BenchmarkFromImage(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			a, im, _ := instance(b, s.size)
			for b.Loop() {
				r, err := a.Restored(im, 16*mib, nil)
				if err != nil {
					b.Fatal(err)
				}
				touch(r, s.pages)
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWatched is BenchmarkRestore's first way with a goroutine that stays on its thread.
func BenchmarkWatched(b *testing.B) {
	for _, s := range shapes {
		b.Run(fmt.Sprintf("%s %dK %d pages", s.name, s.size>>10, s.pages), func(b *testing.B) {
			_, im, r := instance(b, s.size)
			for b.Loop() {
				r.Watch()
				touch(r, s.pages)
				if err := r.Restore(im); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
