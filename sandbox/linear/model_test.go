package linear

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// model is a region, and what it has to hold.
type model struct {
	t      testing.TB
	arena  *Arena
	region *Region
	want   []byte
	clean  bool // nothing was written since it was restored
	images []*Image
	held   [][]byte // what the images hold
}

const modelLimit = 16 * 64 << 10

func (m *model) fresh() {
	r, err := m.arena.Region(modelLimit, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.region, m.want, m.clean = r, nil, false
}

// step does one thing to both; b and at choose which and where.
func (m *model) step(b byte, at uint32) {
	switch b % 10 {
	default: // write, most of the time
		if len(m.want) > 0 {
			from := int(at % uint32(len(m.want)))
			to := min(from+int(b)*64, len(m.want))
			for i := from; i < to; i++ {
				m.want[i] = b
			}
			copy(m.region.Bytes()[from:to], m.want[from:to])
			m.clean = false
		}
	case 0:
		size := uint64(at) % (modelLimit + 64<<10)
		if at&3 > 0 {
			size &^= 0xffff
		}
		got := m.region.Grow(size)
		if (got == nil) != (size > modelLimit) {
			m.t.Fatalf("grown to %d of %d: %v", size, modelLimit, got == nil)
		}
		if got != nil && size > uint64(len(m.want)) {
			m.want = append(m.want, make([]byte, size-uint64(len(m.want)))...)
		}
	case 1:
		if len(m.images) < 4 {
			im, err := m.region.Image()
			if err != nil {
				m.t.Fatal(err)
			}
			m.images, m.held = append(m.images, im), append(m.held, bytes.Clone(m.want))
		}
	case 2, 3:
		if len(m.images) > 0 {
			i := int(at % uint32(len(m.images)))
			if err := m.region.Restore(m.images[i]); err != nil {
				m.t.Fatal(err)
			}
			m.back(m.held[i])
		}
	case 4:
		if m.region.image != nil {
			i := 0
			for m.images[i] != m.region.image {
				i++
			}
			if err := m.region.Trim(); err != nil {
				m.t.Fatal(err)
			}
			m.back(m.held[i])
		}
	case 5:
		m.region.Unwatch()
		closeAll(m.t, m.region, m.region)
		m.fresh()
	case 6:
		if m.clean {
			m.region.Watch()
		}
	case 7:
		m.region.Unwatch()
	}
}

// back is what restoring means.
func (m *model) back(held []byte) {
	next := make([]byte, max(len(m.want), len(held)))
	copy(next, held)
	m.want, m.clean = next, true
}

func (m *model) check() {
	if !bytes.Equal(m.region.Bytes(), m.want) {
		m.t.Fatal("the region does not hold what it has to")
	}
	for i, im := range m.images {
		if !bytes.Equal(im.Bytes(), m.held[i]) || im.Size() != uint64(len(m.held[i])) {
			m.t.Fatal("an image has changed")
		}
	}
}

// play runs steps, five bytes each.
func play(t testing.TB, arena *Arena, steps []byte) {
	m := &model{t: t, arena: arena}
	m.fresh()
	defer func() {
		m.region.Unwatch()
		closeAll(t, m.region)
		closeAll(t, m.images...)
	}()
	for ; len(steps) >= 5; steps = steps[5:] {
		m.step(steps[0], uint32(steps[1])|uint32(steps[2])<<8|uint32(steps[3])<<16|uint32(steps[4])<<24)
		m.check()
	}
}

func TestRegionsHoldWhatTheModelHolds(t *testing.T) {
	both(t, func(t *testing.T, a *Arena) {
		for seed := range uint64(100) {
			steps := make([]byte, 5*60)
			random := rand.NewChaCha8([32]byte{byte(seed)})
			_, _ = random.Read(steps)
			play(t, a, steps)
		}
	})
}

func FuzzRegions(f *testing.F) {
	f.Add([]byte{0, 0, 0, 4, 0, 9, 1, 1, 1, 1, 1, 0, 0, 0, 0, 9, 7, 7, 7, 0, 2, 0, 0, 0, 0, 6, 1, 0, 0, 0, 2, 0, 0, 0, 0, 4, 0, 0, 0, 0})
	a := NewArena(math.MaxUint64)
	f.Fuzz(func(t *testing.T, steps []byte) { play(t, a, steps[:min(len(steps), 5*200)]) })
}
