package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cloudless/cloudless/agent/mirror"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// What is in a folder's own folder.
const (
	rootDir         = "root" // with what is shown in data
	baseFile        = "base.json"
	descriptionFile = "volume.json"
)

// A pass comes passInterval after the last, or later: passes are to take a tenth of the time at most.
const (
	passInterval = 5 * time.Second
	longestPause = 5 * time.Minute
	passShare    = 10
)

// folder is one volume on disk.
type folder struct {
	dir      string
	sized    bool
	tree     *tree
	follower *follower // nil for a volume without a bucket
	resource string
	tell     func(kind string, severity api.Severity, resource, message string)
	cancel   context.CancelFunc // ends the loop
	ended    chan struct{}
	held     atomic.Int64 // bytes in step, after the last pass
}

func (f *folder) root() string { return filepath.Join(f.dir, rootDir) }
func (f *folder) data() string { return filepath.Join(f.root(), dataDir) }

// open opens the folder's files, and its follower if it has a bucket.
func (f *folder) open(m *Manager, bucket string, limit int64, mode mirror.Mode, resource string) (err error) {
	f.resource, f.tell = resource, m.cfg.Tell
	if f.tree, err = openTree(f.root(), mode.Send); err != nil || bucket == "" {
		return err
	}
	f.follower = &follower{
		store: m.cfg.Store, bucket: bucket, tree: f.tree, mode: mode, room: func() int64 { return limit }, path: filepath.Join(f.dir, baseFile),
		tell: func(kind string, severity api.Severity, message string) {
			m.cfg.Tell(kind, severity, resource, message)
		},
	}
	if _, err = f.follower.loadBase(); err != nil {
		return errors.Join(err, f.close())
	}
	f.count()
	return nil
}

// count adds up what is in step. Another pass may be under way.
func (f *folder) count() {
	f.follower.mu.Lock()
	defer f.follower.mu.Unlock()
	total := int64(0)
	for _, b := range f.follower.base {
		total += b.Stamp.Size
	}
	f.held.Store(total)
}

// refreshTimeout bounds the wait for news of a bucket that has been here before.
const refreshTimeout = 3 * time.Second

// populate brings the bucket in. One that has been here before is shown as it is when nothing newer is to be
// had soon.
func (f *folder) populate(ctx context.Context) error {
	_, err := os.Stat(f.follower.path)
	known := err == nil
	if known {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
	}
	err = f.follower.pass(ctx, false)
	f.count()
	if known {
		return nil // the loop tells what is wrong
	}
	return err
}

// start begins the loop.
func (f *folder) start(g *run.Group) {
	ctx, cancel := context.WithCancel(g.Context())
	f.cancel, f.ended = cancel, make(chan struct{})
	g.Go("volume of bucket "+f.follower.bucket, func(context.Context) error {
		defer close(f.ended)
		f.loop(ctx)
		return nil
	})
}

// loop brings the folder into step again and again, and tells when that does not work any more, and when it
// does again.
func (f *folder) loop(ctx context.Context) {
	behind := false
	for wait := passInterval; run.Sleep(ctx, wait) == nil; {
		if f.follower.room() == 0 {
			continue // nobody uses it
		}
		began := time.Now()
		err := f.follower.pass(ctx, false)
		f.count()
		wait = pauseAfter(time.Since(began), err)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !behind:
			f.tell(api.EventVolumeBehind, api.SeverityWarning, f.resource, "a volume is not in step with bucket "+f.follower.bucket+": "+err.Error())
		case err == nil && behind:
			f.tell(api.EventVolumeInStep, api.SeverityInfo, f.resource, "a volume is in step with bucket "+f.follower.bucket+" again")
		}
		behind = err != nil
	}
}

// pauseAfter is how long to rest after a pass. One that ended because the cluster cannot be asked has waited,
// not worked.
func pauseAfter(took time.Duration, err error) time.Duration {
	if api.CodeOf(err) == api.CodeUnavailable {
		return passInterval
	}
	return min(max(passInterval, passShare*took), longestPause)
}

// stop ends the loop and waits for its end.
func (f *folder) stop() {
	if f.cancel != nil {
		f.cancel()
		<-f.ended
		f.cancel = nil
	}
}

func (f *folder) close() error {
	if f.tree == nil {
		return nil
	}
	err := f.tree.close()
	f.tree = nil
	return err
}

// remove takes the folder away with all that is in it.
func (f *folder) remove() error {
	err := f.close()
	if err == nil && f.sized {
		err = unmount(f.root())
	}
	if err == nil {
		err = os.RemoveAll(f.dir)
	}
	return err
}
