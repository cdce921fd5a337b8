package objects

import (
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
)

// scanned bounds the objects that one plan looks at, so that a plan of a large bucket is many short ones.
const scanned = 10_000

// PlanExpiry says which objects of a bucket have expired at now, beginning after a key, and where to go
// on; "" is the end. The command is nil when there is nothing to remove.
func PlanExpiry(rows Rows, bucket, begin string, now time.Time) (cmd *Command, next string, err error) {
	b, err := bucketOrNil(rows, bucket)
	if err != nil || b == nil || b.Expiry == 0 && len(b.Lifecycle) == 0 {
		return nil, "", err
	}
	page, err := List(rows, Query{Bucket: bucket, After: begin, Limit: scanned})
	if err != nil {
		return nil, "", err
	}
	var gone []ExpiredRow
	next = page.Cursor
	for _, o := range page.Objects {
		if !expired(b, o, now) {
			continue
		}
		if gone = append(gone, ExpiredRow{Key: o.Key, Index: o.Index}); len(gone) == MaxExpired {
			next = o.Key
			break
		}
	}
	if len(gone) == 0 {
		return nil, next, nil
	}
	return &Command{At: now, ExpireObjects: &ExpireObjects{Bucket: bucket, Objects: gone}}, next, nil
}

// bucketOrNil gives a bucket, nil for one that is gone.
func bucketOrNil(rows Rows, name string) (*api.Bucket, error) {
	b, err := Bucket(rows, name)
	if api.CodeOf(err) == api.CodeNotFound {
		return nil, nil
	}
	return b, err
}

// expired tells whether a bucket keeps an object no longer.
func expired(b *api.Bucket, o *api.Object, now time.Time) bool {
	if overdue(o.Modified, b.Expiry.D(), now) {
		return true
	}
	return slices.ContainsFunc(b.Lifecycle, func(r api.LifecycleRule) bool {
		return r.CoversObject(o) && (overdue(o.Modified, days(r.ExpireDays), now) || !r.ExpireAt.IsZero() && !now.Before(r.ExpireAt))
	})
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// PlanUploads says which multipart uploads of a bucket its rules abort at now, one command each.
func PlanUploads(rows Rows, bucket string, now time.Time) (cmds []Command, err error) {
	b, err := bucketOrNil(rows, bucket)
	if err != nil || b == nil || !slices.ContainsFunc(b.Lifecycle, func(r api.LifecycleRule) bool { return r.AbortDays > 0 }) {
		return nil, err
	}
	uploads, err := Uploads(rows, bucket, "", UploadRef{}, 0)
	for _, u := range uploads {
		if slices.ContainsFunc(b.Lifecycle, func(r api.LifecycleRule) bool {
			return r.Covers(u.Key) && overdue(u.Started, days(r.AbortDays), now)
		}) {
			cmds = append(cmds, Command{At: now, AbortUpload: &UploadRef{Bucket: bucket, Key: u.Key, ID: u.ID}})
		}
	}
	return cmds, err
}

// PlanSessions says which upload sessions have expired at now; nil is none. What does not fit into a
// command is left for the next plan.
func PlanSessions(rows Rows, now time.Time) (*Command, error) {
	var ids []string
	err := each(rows, sessionKeys, func(_ string, value []byte) (bool, error) {
		s := &api.UploadSession{}
		if _, err := decodeRow(value, s); err != nil {
			return false, err
		}
		if !now.Before(s.Expires) {
			ids = append(ids, s.ID)
		}
		return len(ids) < MaxExpired, nil
	})
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return &Command{At: now, ExpireSessions: &ExpireSessions{IDs: ids}}, nil
}
