package volume

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloudless/cloudless/agent/mirror"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// sharedDir has a folder for each bucket that replicas read.
const sharedDir = "buckets"

// shared is a bucket as the replicas of a node see it that only read it.
type shared struct {
	*folder
	work  sync.Mutex           // one opening at a time
	ready bool                 // under work: its loop runs
	users map[string]api.Bytes // what the volumes of replicas allow, under the manager's mu
	since time.Time            // nobody has used it; under the manager's mu
}

// sharedOf is a bucket's folder, which may not be there yet. m.mu is held.
func (m *Manager) sharedOf(bucket string) *shared {
	s := m.shared[bucket]
	if s == nil {
		dir := filepath.Join(m.cfg.Dir, sharedDir, bucket)
		s = &shared{folder: &folder{dir: dir}, users: map[string]api.Bytes{}, since: time.Now()}
		m.shared[bucket] = s
	}
	return s
}

// use adds a replica to those that use a bucket's folder, and tells whether it is the only one.
func (m *Manager) use(v *api.Volume, replica string) (s *shared, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s = m.sharedOf(v.Bucket)
	first = len(s.users) == 0
	s.users[replica] = max(s.users[replica], v.Limit())
	return s, first
}

// share shows a bucket to one more replica.
func (m *Manager) share(ctx context.Context, replica string, v *api.Volume) (mount sandbox.Mount, err error) {
	s, first := m.use(v, replica)
	s.work.Lock()
	defer s.work.Unlock()
	switch {
	case !s.ready:
		err = m.openShared(ctx, s, v)
	case first: // nobody has kept it in step
		err = s.populate(ctx)
	}
	if err != nil {
		m.unshare(replica)
		return mount, err
	}
	if held := api.Bytes(s.held.Load()); held > v.Limit() {
		m.unshare(replica)
		return mount, api.Errorf(api.CodeNoRoom, "bucket %s has %s, and its volume has room for %s", v.Bucket, held, v.Limit()).
			WithHint("raise the volume's size, or put less into the bucket")
	}
	return sandbox.Mount{Source: s.data(), Target: v.Path, ReadOnly: true}, nil
}

func (m *Manager) openShared(ctx context.Context, s *shared, v *api.Volume) error {
	if err := datadir.Make(s.dir); err != nil {
		return err
	}
	if err := os.Mkdir(s.root(), 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.open(m, v.Bucket, int64(v.Limit()), mirror.Mode{}, "bucket/"+v.Bucket); err != nil {
		return err
	}
	s.follower.room = func() int64 { return m.roomOf(s) }
	if err := s.populate(ctx); err != nil {
		return errors.Join(err, s.close())
	}
	s.start(m.group)
	s.ready = true
	return nil
}

// roomOf is the most that any of the replicas allows which use a shared folder.
func (m *Manager) roomOf(s *shared) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	most := api.Bytes(0)
	for _, limit := range s.users {
		most = max(most, limit)
	}
	return int64(most)
}

// unshare ends a replica's use of all buckets that it shares.
func (m *Manager) unshare(replica string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.shared {
		if _, used := s.users[replica]; used {
			delete(s.users, replica)
			s.since = time.Now()
		}
	}
}

// findShared takes up the folders that an earlier process left: a replica may come for them, or they go.
func (m *Manager) findShared() error {
	entries, err := os.ReadDir(filepath.Join(m.cfg.Dir, sharedDir))
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		m.sharedOf(e.Name())
	}
	return err
}

// tidy removes shared folders that nobody has used for long. It ends with the manager.
func (m *Manager) tidy(ctx context.Context) error {
	for run.Sleep(ctx, tidyInterval) == nil {
		for bucket, s := range m.unused(time.Now()) {
			if err := m.drop(bucket, s); err != nil {
				m.cfg.Log.Warn().Err(err).Str("bucket", bucket).Msg("an unused volume is not removed")
			}
		}
	}
	return nil
}

func (m *Manager) unused(now time.Time) map[string]*shared {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := map[string]*shared{}
	for bucket, s := range m.shared {
		if len(s.users) == 0 && now.Sub(s.since) >= keepUnused {
			list[bucket] = s
		}
	}
	return list
}

// drop removes a shared folder, unless somebody has come for it. Who comes meanwhile waits, and makes it anew.
func (m *Manager) drop(bucket string, s *shared) error {
	s.work.Lock()
	defer s.work.Unlock()
	if m.used(s) {
		return nil
	}
	s.stop()
	s.ready = false
	s.held.Store(0)
	if err := s.remove(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(s.users) == 0 {
		delete(m.shared, bucket)
	}
	return nil
}

func (m *Manager) used(s *shared) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(s.users) > 0
}
