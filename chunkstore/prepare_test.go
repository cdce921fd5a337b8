package chunkstore

import (
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// byHand is a preparation of two records that a test carries out.
func byHand(t *testing.T, work func(ready func(i int)) error) *preparation {
	p := &preparation{records: []*record{{}, {}}, ready: []chan struct{}{make(chan struct{}), make(chan struct{})}, group: run.New(t.Context())}
	p.group.Go("prepare by hand", func(context.Context) error {
		return work(func(i int) { close(p.ready[i]) })
	})
	return p
}

func TestARecordIsWrittenWhileTheNextIsPrepared(t *testing.T) {
	wrote := make(chan struct{}, 2)
	p := byHand(t, func(ready func(int)) error {
		ready(0)
		<-wrote
		ready(1)
		return nil
	})
	var written []*record
	err := p.each(func(r *record) error {
		written = append(written, r)
		wrote <- struct{}{}
		return nil
	})
	p.close()
	if err != nil || len(written) != 2 || written[0] != p.records[0] || written[1] != p.records[1] {
		t.Errorf("%d records were written: %v", len(written), err)
	}
}

func TestNothingIsWrittenBehindARecordThatCannotBePrepared(t *testing.T) {
	failed := errors.New("failed")
	p := byHand(t, func(ready func(int)) error {
		ready(1)
		return failed
	})
	err := p.each(func(*record) error {
		t.Error("a record was written")
		return nil
	})
	if p.close(); !errors.Is(err, failed) {
		t.Error(err)
	}
}

// Beside a put that is refused late, for the last of its chunks, others lose nothing, and none of its own is here.
func TestAPutThatIsRefusedLateStoresNothing(t *testing.T) {
	s := openChunks(t, vfs.NewMem(), small)
	before := noise(100, 100_000)
	putChunks(t, s, "o", before)
	var chunks []Chunk
	for seed := range uint64(8) {
		chunks = append(chunks, Chunk{Digest: DigestOf(noise(seed, 100_000)), Data: noise(seed, 100_000)})
	}
	wrong := chunks[7].Data
	wrong[99_999]++
	mustBe(t, s.Put(t.Context(), PutOptions{Owner: "o"}, chunks...), api.CodeUnsupMedia, nil)
	check := func() {
		t.Helper()
		for _, ch := range chunks {
			if has, err := s.Has(ch.Digest); has || err != nil {
				t.Errorf("has a chunk of a put that was refused: %v", err)
			}
		}
		mustGet(t, s, before)
	}
	check()
	s = reopen(t, s)
	check()
	wrong[99_999]--
	if err := s.Put(t.Context(), PutOptions{Owner: "o"}, chunks...); err != nil {
		t.Fatal(err)
	}
	for _, ch := range chunks {
		mustGet(t, s, ch.Data)
	}
}
