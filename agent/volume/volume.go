// Package volume makes the folders that replicas mount, and keeps those of buckets in step with them.
//
// A volume is one of three. A new one is a folder of its replica alone, of a size that is enforced. A bucket
// that is mounted to be read is one folder of the node, whose replicas share it. A bucket that is mounted to
// be written is again a folder of its replica, kept in step in both directions. docs/VOLUMES.md says what is
// consistent when.
//
//	volume.go   Manager: what there is, for whom
//	own.go      the folders of a replica; shared.go   those that replicas share
//	follow.go   the loop that brings a folder and its bucket into step again and again
//	pass.go     one pass: look at both sides, do what agent/mirror plans
//	tree.go     files, through os.Root; image.go   a file system of a size
package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// Config is what a Manager needs.
type Config struct {
	Dir   string // all volumes are under it
	Store sandbox.Storage
	// Tell is told what people should know, with what it is about. It must not block, and may be nil.
	Tell func(kind string, severity api.Severity, resource, message string)
	Log  zerolog.Logger
}

// Manager has all volumes of a node. It is safe for concurrent use.
type Manager struct {
	cfg   Config
	group *run.Group

	mu     sync.Mutex
	own    map[string]*own // by replica
	shared map[string]*shared
}

// Open makes a manager of what is under its folder. Resume tells it whose volumes are still wanted.
func Open(c Config) (*Manager, error) {
	for _, dir := range []string{c.Dir, filepath.Join(c.Dir, ownDir), filepath.Join(c.Dir, sharedDir)} {
		if err := datadir.Make(dir); err != nil {
			return nil, err
		}
	}
	if c.Tell == nil {
		c.Tell = func(string, api.Severity, string, string) {}
	}
	return &Manager{cfg: c, group: run.New(context.Background()), own: map[string]*own{}, shared: map[string]*shared{}}, nil
}

// Request is a replica that needs its volumes.
type Request struct {
	Replica string
	Variant api.Variant
	Volumes []api.Volume
}

// Mount makes a replica's volumes, or finds those that it has, and shows where they are. Buckets that have
// not been here are brought in first; what has been is shown at once, whether or not the cluster can be
// asked.
func (m *Manager) Mount(ctx context.Context, r Request) (mounts []sandbox.Mount, err error) {
	mine := m.ownOf(r.Replica)
	mine.work.Lock()
	defer mine.work.Unlock()
	if err := ctx.Err(); err != nil { // it may have been released since
		return nil, err
	}
	for i := range r.Volumes {
		v := &r.Volumes[i]
		var mount sandbox.Mount
		if v.Shared() {
			mount, err = m.share(ctx, r.Replica, v)
		} else {
			mount, err = m.mountOwn(ctx, mine, i, r.Variant, v)
		}
		if err != nil {
			return nil, fmt.Errorf("volume at %s: %w", v.Path, err)
		}
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

// Release ends a replica's volumes, once nothing of it runs: what it wrote to buckets is sent, and its
// folders are removed. What cannot be sent until ctx ends is tried again in the background, and kept till
// then.
func (m *Manager) Release(ctx context.Context, replica string) {
	m.unshare(replica)
	mine := m.ownOf(replica) // an earlier process may have made them
	mine.work.Lock()
	defer mine.work.Unlock()
	if err := m.end(ctx, mine); err != nil {
		m.cfg.Tell(api.EventVolumeBehind, api.SeverityWarning, "replica/"+replica, fmt.Sprintf("what replica %s wrote last is kept on the node until it can be sent: %v", replica, err))
		m.retry(mine)
	}
}

// Resume takes up what an earlier process left: volumes of replicas that are not in keep are ended.
func (m *Manager) Resume(keep map[string]bool) error {
	entries, err := os.ReadDir(filepath.Join(m.cfg.Dir, ownDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			m.retry(m.ownOf(e.Name()))
		}
	}
	m.group.Go("unused volumes", m.tidy)
	return m.findShared()
}

// Held is how many bytes of which buckets are in folders that replicas share.
func (m *Manager) Held() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := map[string]int64{}
	for bucket, s := range m.shared {
		if n := s.held.Load(); n > 0 {
			held[bucket] = n
		}
	}
	return held
}

// Close ends all work on volumes. They stay as they are, for the next process; with gone nothing uses them
// any more, and nothing of them stays mounted.
func (m *Manager) Close(gone bool) error {
	err := m.group.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mine := range m.own {
		for _, f := range mine.folders {
			err = errors.Join(err, f.close())
			if gone {
				err = errors.Join(err, unmount(f.root()))
			}
		}
	}
	for _, s := range m.shared {
		err = errors.Join(err, s.folder.close())
	}
	return err
}

// Times of the loops.
const (
	retryInterval = 5 * time.Second // to send what a replica left
	tidyInterval  = 5 * time.Minute
	keepUnused    = time.Hour // of a shared folder that no replica uses
)
