package wasi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// hostile is a guest that calls anything with anything.
type hostile struct {
	*prison
	data []byte
}

// stuff is laid out in the guest's memory, so that pointers often hit something: paths, and lists of
// buffers that are good, outside and beyond counting.
var stuff = []string{
	"file", "dir", "dir/file", "link", "..", "../outside/secret", "/", "dir/../new", "a/b/c", "file/", "\xff", "../../x",
	"\x00\x04\x00\x00\x10\x00\x00\x00", "\x00\x04\x00\x00\xff\xff\xff\xff", "\xff\xff\x03\x00\x02\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x00",
}

func (h *hostile) byte() byte {
	if len(h.data) == 0 {
		return 0
	}
	b := h.data[0]
	h.data = h.data[1:]
	return b
}

// value is a parameter: small, at an edge, a pointer to stuff, or random.
func (h *hostile) value() uint64 {
	edges := []uint64{outside, outside - 1, outside - 8, math.MaxUint32, math.MaxUint32 - 7, 1 << 31, math.MaxInt64, math.MaxUint64, 1 << 63, uint64(allRights), uint64(fileRights), uint64(directoryRights)}
	b := h.byte()
	switch b % 4 {
	case 0:
		return uint64(b / 4 % 12)
	case 1:
		return edges[int(b/4)%len(edges)]
	case 2:
		return heapStart + 32*(uint64(b/4)%uint64(len(stuff)))
	}
	return uint64(binary.LittleEndian.Uint32([]byte{h.byte(), h.byte(), h.byte(), 0}))
}

// run calls functions until the data is used up, or the call ends: as soon as the guest would wait.
func (h *hostile) run() {
	functions := Functions()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h.w.config.Wait = func(f func()) { cancel(); f() }
	stdin := make(slowReader)
	defer close(stdin)
	h.w.Bind(ctx, stdin, nil, nil)
	for len(h.data) > 0 && ctx.Err() == nil {
		for i, s := range stuff {
			copy(h.ram[heapStart+32*i:], s)
		}
		f := functions[int(h.byte())%len(functions)]
		stack := make([]uint64, max(len(f.Params), 1))
		for i := range f.Params {
			stack[i] = h.value()
		}
		v := panicOf(func() { f.Call(h.w, h.ram, stack) })
		var exit *Exit
		if err, ok := v.(error); v != nil && (!ok || !errors.As(err, &exit) && !errors.Is(err, context.Canceled)) {
			h.t.Fatalf("%s panics with %v", f.Name, v)
		}
		if v == nil && len(f.Results) > 0 && stack[0] > uint64(eNotcapable) {
			h.t.Fatalf("%s gives %d, which is no errno", f.Name, stack[0])
		}
	}
}

func newHostile(t *testing.T, data []byte) *hostile {
	p := newPrison(t)
	p.onHost("file", "text")
	if err := errors.Join(os.Mkdir(filepath.Join(p.dir, "dir"), 0o755), os.Symlink("../outside", filepath.Join(p.dir, "link"))); err != nil {
		t.Fatal(err)
	}
	dir, limits := p.dir, VolumeLimits{Bytes: 1 << 20, Names: 64}
	v := openVolume(t, dir, limits)
	t.Cleanup(func() { // after the world is closed
		if got, want := v.Used(), openVolume(t, dir, limits).Used(); got != want {
			t.Errorf("the volume counts %+v, but there is %+v", got, want)
		}
	})
	l := NewListener()
	p.guest = newGuest(t, Config{Listener: l, Descriptors: 16, Mounts: []Mount{{"/", v, false}, {"/ro", v, true}}})
	for range 2 {
		c := dial(t, l)
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	return &hostile{p, data}
}

// Whatever a guest calls with whatever it has, the host neither panics nor waits, tells an errno, what
// lies beside the mount is as it was, and the volume knows what is in it.
func FuzzCalls(f *testing.F) {
	for i := range uint64(8) {
		data := make([]byte, 256)
		random(i).Read(data)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			t.Skip()
		}
		newHostile(t, data).run()
	})
}

type reader struct{ *rand.ChaCha8 }

func random(seed uint64) reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return reader{rand.NewChaCha8(key)}
}

func TestRandomCalls(t *testing.T) {
	const sequences = 200
	for seed := range uint64(sequences) {
		data := make([]byte, 2048)
		random(seed).Read(data)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { newHostile(t, data).run() })
	}
}
