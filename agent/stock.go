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

// Pauses between two looks, which all sessions share. The folder of artifacts is read only when it has
// changed, or when someone else may have changed it: it may have thousands.
const (
	stockInterval  = time.Second
	folderInterval = time.Minute
)

// artifacts are what is stored by digest; *chunkstore.Files implements it.
type artifacts interface {
	List() ([]chunkstore.Info, error)
	Changes() uint64
}

// stock keeps the list of what this node has at hand. A heartbeat carries it only to a coordinator
// that has another revision of it, so it costs nothing while it stays as it is.
type stock struct {
	files artifacts
	warm  func() []string
	held  func() map[string]int64 // bytes of buckets

	mu      sync.Mutex
	now     *api.Inventory
	looked  time.Time
	read    time.Time // the folder
	changes uint64    // when it was read
}

func newStock(files artifacts, warm func() []string, held func() map[string]int64) *stock {
	return &stock{files: files, warm: warm, held: held}
}

// look gives the list as it is; nil if the store cannot be read. The caller must not change it.
func (s *stock) look(now time.Time) *api.Inventory {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil && now.Sub(s.looked) < stockInterval {
		return s.now
	}
	digests, err := s.digests(now)
	if err != nil {
		return s.now // what was known last; fetching tells the error where it matters
	}
	warm := s.warm()
	next := &api.Inventory{Artifacts: digests, Prepared: warm[:min(len(warm), api.MaxInventory)], Buckets: roundly(s.held())}
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

// digests are those of the artifacts. What changes while the folder is read is read again the next time.
func (s *stock) digests(now time.Time) ([]string, error) {
	changes := s.files.Changes()
	if s.now != nil && changes == s.changes && now.Sub(s.read) < folderInterval {
		return s.now.Artifacts, nil
	}
	held, err := s.files.List()
	if err != nil {
		return nil, err
	}
	s.changes, s.read = changes, now
	return usedLast(held), nil
}

// usedLast is as many artifacts as are told, in the order of their digests, so that using one changes
// nothing.
func usedLast(held []chunkstore.Info) []string {
	slices.SortFunc(held, func(a, b chunkstore.Info) int {
		return cmp.Or(b.Used.Compare(a.Used), strings.Compare(a.Digest, b.Digest))
	})
	var digests []string
	for _, info := range held[:min(len(held), api.MaxInventory)] {
		digests = append(digests, info.Digest)
	}
	slices.Sort(digests)
	return digests
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
