package agent

import (
	"cmp"
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

	mu     sync.Mutex
	now    *api.Inventory
	looked time.Time
}

func newStock(list func() ([]chunkstore.Info, error), warm func() []string) *stock {
	return &stock{list: list, warm: warm}
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
	if s.now == nil || !slices.Equal(next.Artifacts, s.now.Artifacts) || !slices.Equal(next.Prepared, s.now.Prepared) {
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
