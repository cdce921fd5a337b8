package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudless/cloudless/agent/mirror"
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/sandbox"
)

// Bounds of one folder that is kept in step.
const (
	maxNames = 100_000 // files in it
	moving   = 4       // objects that are fetched or sent at the same time
)

// follower keeps a folder in step with a bucket, one pass after the other.
type follower struct {
	store  sandbox.Storage
	bucket string
	tree   *tree
	mode   mirror.Mode
	room   func() int64 // bytes that may be in the folder
	path   string       // where the base is kept
	tell   func(kind string, severity api.Severity, message string)

	passing sync.Mutex // one pass at a time

	mu   sync.Mutex // passes do several things at a time
	base map[string]mirror.Base
	old  bool                   // the base is not what is kept
	seen map[string]mirror.File // by the pass under way, but for what it set aside
	told map[string]bool
}

// loadBase reads what was in step when the base was last kept; known is false if there has been no pass.
func (f *follower) loadBase() (known bool, err error) {
	f.base, f.told = map[string]mirror.Base{}, map[string]bool{}
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.old = true // an empty one is kept too, after the first pass
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &f.base)
	}
	return err == nil, err
}

// keepBase writes the base down, after the files that it speaks of.
func (f *follower) keepBase() error {
	if err := f.tree.sync(); err != nil {
		return err
	}
	data, err := json.Marshal(f.base)
	if err != nil {
		return err
	}
	return datadir.WriteFile(f.path, data)
}

// pass brings both into step, as far as it can. What failed by itself is tried again in the next pass; the
// error is the first that there was.
func (f *follower) pass(ctx context.Context, final bool) error {
	f.passing.Lock()
	defer f.passing.Unlock()
	objects, err := f.list(ctx)
	if err != nil {
		return err
	}
	f.skip(mirror.Usable(objects))
	now := time.Now()
	if final {
		now = now.Add(settled) // nobody writes any more: what there is is whole
	}
	files, err := f.tree.scan(ctx, f.base, now)
	if err != nil {
		return fmt.Errorf("the folder of bucket %s cannot be read: %w", f.bucket, err)
	}
	f.seen = files
	actions := mirror.Plan(files, objects, f.base, f.mode)
	if err := f.fits(files, objects, actions); err != nil {
		return err
	}
	err = f.do(ctx, actions)
	if f.old {
		if kept := f.keepBase(); kept != nil {
			return errors.Join(err, kept)
		}
		f.old = false
	}
	return err
}

// list is all that is in the bucket.
func (f *follower) list(ctx context.Context) (map[string]mirror.Object, error) {
	objects := map[string]mirror.Object{}
	for q := (meta.List{Bucket: f.bucket, Limit: api.DefaultListLimit}); ; {
		page, err := f.store.List(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, o := range page.Objects {
			objects[o.Key] = mirror.Object{ETag: o.ETag, Size: o.Size}
		}
		if len(objects) > maxNames {
			return nil, api.Errorf(api.CodeTooLarge, "bucket %s has more than %d objects, the most that a volume can show", f.bucket, maxNames).
				WithHint("spread them over several buckets, or use the S3 door")
		}
		if q.After = page.Cursor; q.After == "" {
			return objects, nil
		}
	}
}

// skip tells once of each key that cannot be a file, for as long as it is there.
func (f *follower) skip(skipped map[string]string) {
	maps.DeleteFunc(f.told, func(key string, _ bool) bool { return skipped[key] == "" })
	for _, key := range slices.Sorted(maps.Keys(skipped)) {
		if !f.told[key] {
			f.told[key] = true
			f.tell(api.EventVolumeSkipped, api.SeverityWarning, fmt.Sprintf("bucket %s: %.200q is not shown as a file: %s", f.bucket, key, skipped[key]))
		}
	}
}

// fits refuses a plan by which the folder would have more than it may.
func (f *follower) fits(files map[string]mirror.File, objects map[string]mirror.Object, actions []mirror.Action) error {
	total := int64(0)
	for _, file := range files {
		total += file.Stamp.Size
	}
	more := false
	for _, a := range actions {
		switch a.Kind {
		case mirror.Fetch:
			total += objects[a.Name].Size - files[a.Name].Stamp.Size
			more = true
		case mirror.SetAside:
			total += files[a.Name].Stamp.Size
		case mirror.Remove:
			total -= files[a.Name].Stamp.Size
		}
	}
	if room := f.room(); more && total > room {
		return api.Errorf(api.CodeNoRoom, "bucket %s needs %s, and its volume has room for %s", f.bucket, api.Bytes(total), api.Bytes(room)).
			WithHint("raise the volume's size, or put less into the bucket")
	}
	return nil
}

// do does the actions of each kind before those of the next. Whoever finds that the cluster cannot be asked
// ends the pass.
func (f *follower) do(ctx context.Context, actions []mirror.Action) error {
	var first error
	for len(actions) > 0 {
		n := slices.IndexFunc(actions, func(a mirror.Action) bool { return a.Kind != actions[0].Kind })
		if n < 0 {
			n = len(actions)
		}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(moving)
		for _, a := range actions[:n] {
			g.Go(func() error {
				err := f.act(ctx, a)
				f.mu.Lock()
				defer f.mu.Unlock()
				if err != nil && first == nil {
					first = fmt.Errorf("bucket %s: %s %.200q: %w", f.bucket, a.Kind, a.Name, err)
				}
				if ctx.Err() != nil || api.CodeOf(err) == api.CodeUnavailable {
					return err
				}
				return nil
			})
		}
		if g.Wait() != nil {
			return first
		}
		actions = actions[n:]
	}
	return first
}

func (f *follower) act(ctx context.Context, a mirror.Action) (err error) {
	switch a.Kind {
	case mirror.Forget:
		f.forget(a.Name)
	case mirror.Note:
		return f.note(a.Name, a.ETag)
	case mirror.Remove:
		if same, err := f.asSeen(a.Name); !same {
			return err
		}
		if err = f.tree.remove(a.Name); err == nil {
			f.forget(a.Name)
		}
	case mirror.SetAside:
		if err = f.tree.rename(a.Name, a.As); err == nil {
			f.forget(a.Name)
			f.mu.Lock()
			delete(f.seen, a.Name)
			f.mu.Unlock()
			f.tell(api.EventVolumeConflict, api.SeverityWarning, fmt.Sprintf("bucket %s: %.200q was changed here and elsewhere: the change made here is now %.200q", f.bucket, a.Name, a.As))
		}
	case mirror.Fetch:
		return f.fetch(ctx, a.Name)
	case mirror.Send:
		return f.send(ctx, a)
	case mirror.Delete:
		if err = f.store.Delete(ctx, f.bucket, a.Name, a.ETag); err == nil || overtaken(err) {
			f.forget(a.Name) // what took its place is fetched
			err = nil
		}
	}
	return err
}

// overtaken tells that somebody else changed the object since it was looked at.
func overtaken(err error) bool {
	code := api.CodeOf(err)
	return code == api.CodeConflict || code == api.CodeNotFound
}

func (f *follower) set(name string, b mirror.Base) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.base[name], f.old = b, true
}

func (f *follower) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.base, name)
	f.old = true
}

func (f *follower) note(name, etag string) error {
	stamp, err := f.tree.stamp(path.Join(dataDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the next pass sees it
	}
	if err == nil {
		f.set(name, mirror.Base{Stamp: stamp, ETag: etag})
	}
	return err
}

func (f *follower) fetch(ctx context.Context, name string) error {
	o, r, err := f.store.Open(ctx, f.bucket, name, 0, -1)
	if api.CodeOf(err) == api.CodeNotFound {
		return nil // the next pass sees it
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if o.Size > f.room() { // it has grown since it was listed
		return api.Errorf(api.CodeNoRoom, "it has %s, more than its volume", api.Bytes(o.Size))
	}
	stamp, err := f.tree.put(name, r, func() (bool, error) { return f.asSeen(name) })
	if err == nil && stamp != (mirror.Stamp{}) {
		f.set(name, mirror.Base{Stamp: stamp, ETag: o.ETag})
	}
	return err
}

// asSeen tells whether a file is still what the pass under way saw. If it is not, it is left alone: the next
// pass decides anew.
func (f *follower) asSeen(name string) (bool, error) {
	f.mu.Lock()
	seen, was := f.seen[name]
	f.mu.Unlock()
	stamp, err := f.tree.stamp(path.Join(dataDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return !was, nil
	}
	return err == nil && stamp == seen.Stamp, err
}

// send puts a file. If it changes meanwhile its stamp does too, and the next pass sends it again.
func (f *follower) send(ctx context.Context, a mirror.Action) error {
	file := path.Join(dataDir, a.Name)
	stamp, err := f.tree.stamp(file)
	if err == nil {
		var r *os.File
		if r, err = f.tree.openFile(file); err == nil {
			defer r.Close()
			var o *api.Object
			c := meta.Condition{IfAbsent: a.ETag == "", IfMatch: a.ETag}
			if o, err = f.store.Put(ctx, f.bucket, a.Name, c, -1, r); err == nil {
				f.set(a.Name, mirror.Base{Stamp: stamp, ETag: o.ETag})
			}
		}
	}
	if overtaken(err) || errors.Is(err, fs.ErrNotExist) {
		return nil // the next pass sees what there is now
	}
	return err
}
