package bubble

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/test/simnet"
)

// putTime is how long a client of the object store waits.
const putTime = 15 * time.Second

// putSmall puts an object that is kept in its row, and that must not be there.
func (c *coord) putSmall(key, content string) (*api.Object, error) {
	ctx, cancel := context.WithTimeout(c.w.t.Context(), putTime)
	defer cancel()
	p := api.ObjectPut{Bucket: "assets", Key: key, Size: int64(len(content)), IfAbsent: true}
	return c.PutObject(ctx, admin, p, strings.NewReader(content))
}

// read gives an object's row and bytes.
func (c *coord) read(key string) (*api.Object, string, error) {
	ctx, cancel := context.WithTimeout(c.w.t.Context(), putTime)
	defer cancel()
	r, err := c.OpenObject(ctx, "assets", key)
	if err != nil {
		return nil, "", err
	}
	bytes, err := io.ReadAll(r.Range(ctx, 0, -1))
	return r.Object(), string(bytes), err
}

func (w *world) makeBucket() {
	w.t.Helper()
	_, err := w.mustLead().PutBucket(w.t.Context(), admin, api.Bucket{Name: "assets"}, true, 0)
	w.check(err)
}

// attempts is what came of puts by several writers, by key.
type attempts struct {
	mu    sync.Mutex
	acked map[string]*api.Object
	open  map[string]error // nobody knows what came of these
	wrong []string
}

func (a *attempts) note(key string, o *api.Object, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch code := api.CodeOf(err); code {
	case "":
		a.acked[key] = o
	case api.CodeUnavailable, api.CodeTimeout:
		a.open[key] = err
	default: // a conflict: the put was made twice
		a.wrong = append(a.wrong, fmt.Sprintf("%s: %v", key, err))
	}
}

// writeWhile puts objects through some coordinators, from several writers each, while f runs.
func (w *world) writeWhile(through []*coord, f func()) *attempts {
	a := &attempts{acked: map[string]*api.Object{}, open: map[string]error{}}
	ctx, stop := context.WithCancel(w.t.Context())
	var writers sync.WaitGroup
	for i := range 8 {
		c := through[i%len(through)]
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("%d/%d", i, n)
				o, err := c.putSmall(key, "content of "+key)
				a.note(key, o, err)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	f()
	stop()
	writers.Wait()
	return a
}

// A leader that is killed in the middle of puts takes none of those with it that were acknowledged, and
// none is made twice, whichever coordinator it came through.
func TestNoAcknowledgedPutIsLostWithTheLeader(t *testing.T) {
	small(t, 3, 0, func(w *world) {
		w.makeBucket()
		old := w.mustLead()
		var others []*coord
		for _, c := range w.coords {
			if c != old {
				others = append(others, c)
			}
		}
		a := w.writeWhile(others, func() {
			w.pass(2 * time.Second)
			w.crash(old)
			w.eventually("another leader", soon, func() bool { return w.leader() != nil })
			w.pass(2 * time.Second)
		})
		w.tell("%d puts acknowledged, of %d nobody knows", len(a.acked), len(a.open))
		if len(a.acked) < 100 || len(a.wrong) > 0 {
			w.t.Errorf("%d puts acknowledged; %v", len(a.acked), a.wrong)
		}
		for _, c := range others {
			for key, want := range a.acked {
				got, content, err := c.read(key)
				if err != nil || content != "content of "+key || got.Index != want.Index {
					w.t.Fatalf("%s of %s is %+v, %q, %v; acknowledged at %d", key, c.name, got, content, err, want.Index)
				}
			}
		}
		<-old.ended
		w.boot(old)
		w.eventually("all to vote", time.Minute, func() bool { return w.voters() == 3 })
		w.sameState()
	})
}

// A leader that is cut off gives no answer that is older than what the others have acknowledged since:
// it says that it cannot tell. Nor does it take a put.
func TestALeaderThatIsCutOffAnswersNothingOld(t *testing.T) {
	small(t, 3, 0, func(w *world) {
		w.makeBucket()
		old := w.mustLead()
		_, err := old.putSmall("key", "content")
		w.check(err)
		var others []*coord
		for _, c := range w.coords {
			if c != old {
				others = append(others, c)
			}
		}
		w.part(simnet.Drop, coordHosts(old), coordHosts(others...))
		for _, c := range w.coords { // from the first moment on
			_, _, err := c.read("key")
			if code := api.CodeOf(err); c == old && code != api.CodeUnavailable {
				w.t.Errorf("the leader that is cut off answers with %v", err)
			} else if c != old && err != nil {
				w.t.Errorf("%s: %v", c.name, err)
			}
		}
		if _, err := old.putSmall("other", "content"); api.CodeOf(err) != api.CodeUnavailable && api.CodeOf(err) != api.CodeTimeout {
			w.t.Errorf("the leader that is cut off answers a put with %v", err)
		}
		if _, err := others[0].putSmall("new", "content"); err != nil {
			w.t.Error(err)
		}
		w.heal()
		w.eventually("the old leader to follow", soon, func() bool {
			_, content, err := old.read("new")
			return err == nil && content == "content"
		})
		if _, _, err := old.read("other"); api.CodeOf(err) != api.CodeNotFound {
			w.t.Errorf("a put that was not acknowledged and never reached a majority: %v", err)
		}
	})
}

// Without a majority the store says so, and what to look at, within a few seconds.
func TestWithoutAMajorityTheStoreIsUnavailable(t *testing.T) {
	small(t, 3, 0, func(w *world) {
		w.makeBucket()
		left := w.coords[0]
		w.crash(w.coords[1])
		w.crash(w.coords[2])
		_, _, err := left.read("key")
		if e := api.AsError(err); e.Code.HTTPStatus() != 503 || !strings.Contains(e.Hint, "cloudless status") {
			w.t.Errorf("a read: %v", err)
		}
		_, err = left.putSmall("key", "content")
		if e := api.AsError(err); e.Code.HTTPStatus() != 503 && e.Code != api.CodeTimeout || e.Hint == "" {
			w.t.Errorf("a put: %v", err)
		}
	})
}

// A backup that is taken while objects are written is of one moment, and restoring it brings back that
// moment on every coordinator, the one that was down too; after it no node may collect for a day.
func TestABackupIsOfOneMomentAndIsRestoredEverywhere(t *testing.T) {
	small(t, 3, 0, func(w *world) {
		w.makeBucket()
		var backup bytes.Buffer
		before := ""
		a := w.writeWhile(w.coords, func() {
			w.pass(time.Second)
			o, err := w.coords[0].putSmall("before", "the backup")
			w.check(err)
			before = o.Key
			w.check(w.coords[1].BackupStorage(w.t.Context(), &backup))
			_, err = w.coords[0].putSmall("after", "the backup")
			w.check(err)
			w.pass(time.Second)
		})
		if len(a.wrong)+len(a.open) > 0 {
			w.t.Errorf("%v %v", a.wrong, a.open)
		}
		away := w.coords[2]
		w.crash(away)
		w.eventually("a leader", soon, func() bool { return w.leader() != nil })
		damaged := bytes.Clone(backup.Bytes())
		damaged[len(damaged)/2] ^= 1
		if err := w.coords[0].RestoreStorage(w.t.Context(), admin, bytes.NewReader(damaged)); api.CodeOf(err) != api.CodeInvalid {
			w.t.Errorf("a damaged backup: %v", err)
		}
		if _, _, err := w.coords[0].read("after"); err != nil {
			w.t.Errorf("a damaged backup changed something: %v", err)
		}
		w.check(w.coords[0].RestoreStorage(w.t.Context(), admin, &backup))
		<-away.ended
		w.boot(away)
		w.eventually("all to vote", time.Minute, func() bool { return w.voters() == 3 })
		for _, c := range w.coords {
			if _, content, err := c.read(before); err != nil || content != "the backup" {
				w.t.Errorf("%s: %q, %v", c.name, content, err)
			}
			if _, _, err := c.read("after"); api.CodeOf(err) != api.CodeNotFound {
				w.t.Errorf("%s has what was put after the backup: %v", c.name, err)
			}
			report, err := c.StorageReport(w.t.Context())
			if left := time.Until(report.HeldUntil); err != nil || left < 23*time.Hour || left > 24*time.Hour {
				w.t.Errorf("%s: collection is held for another %v, %v", c.name, left, err)
			}
		}
		w.sameState()
	})
}

// Objects and upload sessions go when their time is over, with nobody asking.
func TestObjectsAndSessionsExpire(t *testing.T) {
	small(t, 1, 0, func(w *world) {
		c := w.coords[0]
		_, err := c.PutBucket(w.t.Context(), admin, api.Bucket{Name: "assets", Expiry: api.Duration(time.Hour)}, true, 0)
		w.check(err)
		_, err = c.putSmall("key", "content")
		w.check(err)
		session, err := c.OpenUpload(w.t.Context(), admin, "assets")
		w.check(err)
		w.pass(api.SessionLifetime - time.Second)
		if _, err := c.MissingChunks(w.t.Context(), session.ID, nil); err != nil { // which renews it
			w.t.Errorf("the session ended early: %v", err)
		}
		w.pass(api.SessionLifetime + 20*time.Second)
		if _, err := c.MissingChunks(w.t.Context(), session.ID, nil); api.CodeOf(err) != api.CodeConflict {
			w.t.Errorf("the session has not ended: %v", err)
		}
		if _, _, err := c.read("key"); err != nil {
			w.t.Errorf("the object went early: %v", err)
		}
		w.pass(time.Hour)
		if _, _, err := c.read("key"); api.CodeOf(err) != api.CodeNotFound {
			w.t.Errorf("the object is still there: %v", err)
		}
	})
}
