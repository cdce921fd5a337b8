package volume

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/cloudless/cloudless/agent/mirror"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// ownDir has a folder for each replica, with one for each of its volumes.
const ownDir = "replicas"

// own is the volumes of one replica.
type own struct {
	replica string
	work    sync.Mutex // one Mount or Release at a time
	folders map[int]*folder
}

func (m *Manager) ownOf(replica string) *own {
	m.mu.Lock()
	defer m.mu.Unlock()
	mine := m.own[replica]
	if mine == nil {
		mine = &own{replica: replica, folders: map[int]*folder{}}
		m.own[replica] = mine
	}
	return mine
}

func (m *Manager) ownPath(replica string) string { return filepath.Join(m.cfg.Dir, ownDir, replica) }

// describe is what a folder's next process has to know of it.
type describe struct {
	Bucket string    `json:"bucket,omitempty"`
	Limit  api.Bytes `json:"limit"`
	Sized  bool      `json:"sized,omitempty"` // it is a file system of its own
}

func (m *Manager) mountOwn(ctx context.Context, mine *own, i int, variant api.Variant, v *api.Volume) (sandbox.Mount, error) {
	mount := sandbox.Mount{Target: v.Path, Limit: v.Limit()}
	if f := mine.folders[i]; f != nil {
		mount.Source = f.data()
		return mount, nil
	}
	dir := filepath.Join(m.ownPath(mine.replica), strconv.Itoa(i))
	d := describe{Bucket: v.Bucket, Limit: v.Limit(), Sized: variant == api.VariantContainer}
	if err := writeDescription(dir, d); err != nil {
		return mount, err
	}
	f, err := m.openOwn(ctx, mine.replica, dir, d)
	if err != nil {
		return mount, err
	}
	if f.follower != nil {
		if err := f.populate(ctx); err != nil {
			return mount, errors.Join(err, f.close())
		}
		f.start(m.group)
	}
	mine.folders[i] = f
	mount.Source = f.data()
	return mount, nil
}

func writeDescription(dir string, d describe) error {
	for _, dir := range []string{filepath.Dir(dir), dir} {
		if err := datadir.Make(dir); err != nil {
			return err
		}
	}
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return datadir.WriteFile(filepath.Join(dir, descriptionFile), data)
}

// openOwn opens a replica's folder, mounting what it lies on.
func (m *Manager) openOwn(ctx context.Context, replica, dir string, d describe) (*folder, error) {
	f := &folder{dir: dir, sized: d.Sized}
	if err := os.Mkdir(f.root(), 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if d.Sized {
		if err := mountSized(ctx, dir, f.root(), d.Limit); err != nil {
			return nil, err
		}
	}
	mode := mirror.Mode{Send: true, Mark: replica}
	return f, f.open(m, d.Bucket, int64(d.Limit), mode, "replica/"+replica)
}

// end sends what the folders of a replica have that their buckets have not, and removes them.
func (m *Manager) end(ctx context.Context, mine *own) error {
	if err := m.reopen(ctx, mine); err != nil {
		return err
	}
	for i, f := range mine.folders {
		f.stop()
		if f.follower != nil {
			if err := f.follower.pass(ctx, true); err != nil {
				return err
			}
		}
		if err := f.remove(); err != nil {
			return err
		}
		delete(mine.folders, i)
	}
	if err := os.RemoveAll(m.ownPath(mine.replica)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.own, mine.replica)
	return nil
}

// reopen opens what an earlier process left of a replica whose end it did not see. What never was of use to
// anybody, a folder that was being made, just goes.
func (m *Manager) reopen(ctx context.Context, mine *own) error {
	entries, err := os.ReadDir(m.ownPath(mine.replica))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		i, err := strconv.Atoi(e.Name())
		if err != nil || mine.folders[i] != nil {
			continue
		}
		dir := filepath.Join(m.ownPath(mine.replica), e.Name())
		var d describe
		data, err := os.ReadFile(filepath.Join(dir, descriptionFile))
		if err != nil || json.Unmarshal(data, &d) != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, baseFile)); d.Bucket != "" && err == nil {
			if mine.folders[i], err = m.openOwn(ctx, mine.replica, dir, d); err != nil {
				delete(mine.folders, i)
				return err
			}
			continue
		}
		if err := unmount(filepath.Join(dir, rootDir)); err != nil {
			return err
		}
	}
	return nil
}

// retry ends a replica's volumes in the background, however long that takes.
func (m *Manager) retry(mine *own) {
	m.group.Go("volumes of "+mine.replica, func(ctx context.Context) error {
		for {
			mine.work.Lock()
			err := m.end(ctx, mine)
			mine.work.Unlock()
			if err == nil {
				return nil
			}
			m.cfg.Log.Warn().Err(err).Str("replica", mine.replica).Msg("volumes of an ended replica are kept")
			if run.Sleep(ctx, retryInterval) != nil {
				return nil
			}
		}
	})
}
