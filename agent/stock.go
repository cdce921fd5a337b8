package agent

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
)

// stockInterval is how often the store is looked through; all sessions share one look.
const stockInterval = time.Second

// stock keeps the list of what this node has at hand. A heartbeat carries it only to a coordinator
// that has another revision of it, so it costs nothing while it stays as it is.
type stock struct {
	list func() ([]chunkstore.Info, error)
	warm func() []string
	held func() map[string]int64 // bytes of buckets

	mu     sync.Mutex
	now    *api.Inventory
	looked time.Time
}

func newStock(list func() ([]chunkstore.Info, error), warm func() []string, held func() map[string]int64) *stock {
	return &stock{list: list, warm: warm, held: held}
}

// look gives the list as it is; nil if the store cannot be read. The caller must not change it.
func (s *stock) look(now time.Time) *api.Inventory {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil && now.Sub(s.looked) < stockInterval {
		return s.now
	}
	held, err := s.list()
	if err != nil {
		return s.now // what was known last; fetching tells the error where it matters
	}
	next := takeStock(held, s.warm())
	next.Buckets = roundly(s.held())
	if s.now == nil || !slices.Equal(next.Artifacts, s.now.Artifacts) || !slices.Equal(next.Prepared, s.now.Prepared) || !maps.Equal(next.Buckets, s.now.Buckets) {
		next.Revision = uint64(now.UnixNano()) // after a restart another one, whatever the last was
		if s.now != nil {
			next.Revision = max(next.Revision, s.now.Revision+1)
		}
		s.now = next
	}
	s.looked = now
	return s.now
}

// takeStock is the list without its revision: of the artifacts those used last, in the order of their
// digests, so that using one changes nothing.
func takeStock(held []chunkstore.Info, warm []string) *api.Inventory {
	held = slices.SortedFunc(slices.Values(held), func(a, b chunkstore.Info) int {
		return cmp.Or(b.Used.Compare(a.Used), strings.Compare(a.Digest, b.Digest))
	})
	inv := &api.Inventory{Prepared: warm[:min(len(warm), api.MaxInventory)]}
	for _, info := range held[:min(len(held), api.MaxInventory)] {
		inv.Artifacts = append(inv.Artifacts, info.Digest)
	}
	slices.Sort(inv.Artifacts)
	return inv
}

// roundly is how many bytes of buckets are held, to the power of two below, so that a bucket that changes all
// the time does not change what is told of it each time; of the buckets those with most.
func roundly(held map[string]int64) map[string]int64 {
	names := slices.SortedFunc(maps.Keys(held), func(a, b string) int {
		return cmp.Or(cmp.Compare(held[b], held[a]), strings.Compare(a, b))
	})
	out := map[string]int64{}
	for _, name := range names[:min(len(names), api.MaxInventory)] {
		out[name] = 1 << (bits.Len64(uint64(held[name])) - 1)
	}
	return out
}
