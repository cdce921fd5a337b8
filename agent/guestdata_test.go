package agent

import (
	"errors"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/gateway"
)

// An object on its way in is held to its bucket's quota: small ones are not asked about, larger ones once.
func TestWhatGuestsWriteIsHeldToTheQuota(t *testing.T) {
	const room = 10
	gone := errors.New("no quorum")
	for _, tt := range []struct {
		size, quota int64
		err         error
		asked       int
		code        api.Code // "" is all read
	}{
		{size: room - 1, quota: 1},
		{size: room, quota: 1},
		{size: room + 1, quota: room + 1, asked: 1},
		{size: room + 1, quota: room, asked: 1, code: api.CodeNoRoom},
		{size: 100, quota: 0, asked: 1},
		{size: 100, quota: 99, asked: 1, code: api.CodeNoRoom},
		{size: 100, err: gone, asked: 1, code: api.CodeInternal},
	} {
		asked := 0
		b := &bounded{Reader: trickle{strings.NewReader(strings.Repeat("x", int(tt.size)))}, room: room, quota: func() (int64, error) {
			asked++
			return tt.quota, tt.err
		}}
		got, err := io.ReadAll(b)
		if (err == nil) != (tt.code == "") || err != nil && api.CodeOf(err) != tt.code || asked != tt.asked || err == nil && int64(len(got)) != tt.size {
			t.Errorf("%d bytes, quota %d: read %d, asked %d times, %v", tt.size, tt.quota, len(got), asked, err)
		}
	}
}

// trickle gives a byte at a time.
type trickle struct{ io.Reader }

func (r trickle) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(len(p), 1)]) }

// Before the node reaches the store, and where it writes too much at once, guests are told to try again.
func TestGuestsAreToldToTryAgain(t *testing.T) {
	d := newGuestData(func() *gateway.Gateway { return nil })
	_, statErr := d.Stat(t.Context(), "b", "k")
	_, _, openErr := d.Open(t.Context(), "b", "k", 0, -1)
	_, putErr := d.Put(t.Context(), "b", "k", meta.Condition{}, -1, strings.NewReader(""))
	_, listErr := d.List(t.Context(), meta.List{Bucket: "b"})
	for _, err := range []error{statErr, openErr, putErr, listErr, d.Delete(t.Context(), "b", "k", "")} {
		if api.CodeOf(err) != api.CodeUnavailable {
			t.Error(err)
		}
	}
	d = newGuestData(func() *gateway.Gateway { return &gateway.Gateway{} })
	for range maxGuestStreams {
		d.streams <- struct{}{}
	}
	if _, err := d.Put(t.Context(), "b", "k", meta.Condition{}, -1, strings.NewReader("")); api.CodeOf(err) != api.CodeRateLimited {
		t.Error(err)
	}
}

// What is held of buckets is told roughly, so that it seldom changes, and of the largest only.
func TestHeldBytesAreToldRoughly(t *testing.T) {
	got := roundly(map[string]int64{"a": 1, "b": 1 << 20, "c": 1<<21 - 1, "d": 3})
	if want := map[string]int64{"a": 1, "b": 1 << 20, "c": 1 << 20, "d": 2}; !maps.Equal(got, want) {
		t.Error(got)
	}
	many := map[string]int64{}
	for i := range api.MaxInventory + 1 {
		many[strings.Repeat("x", i)] = int64(i + 1)
	}
	if got := roundly(many); len(got) != api.MaxInventory || got[""] != 0 {
		t.Errorf("%d buckets are told", len(got))
	}
}
