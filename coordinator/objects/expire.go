package objects

import (
	"time"

	"github.com/cloudless/cloudless/api"
)

// scanned bounds the objects that one plan looks at, so that a plan of a large bucket is many short ones.
const scanned = 10_000

// PlanExpiry says which objects of a bucket have expired at now, beginning after a key, and where to go
// on; "" is the end. The command is nil when there is nothing to remove.
func PlanExpiry(rows Rows, bucket, begin string, now time.Time) (cmd *Command, next string, err error) {
	value, err := rows.Get(bucketKeys + bucket)
	if err != nil || value == nil {
		return nil, "", err
	}
	b := &api.Bucket{}
	if _, err := decodeRow(value, b); err != nil || b.Expiry == 0 {
		return nil, "", err
	}
	page, err := List(rows, Query{Bucket: bucket, After: begin, Limit: scanned})
	if err != nil {
		return nil, "", err
	}
	var gone []ExpiredRow
	next = page.Cursor
	for _, o := range page.Objects {
		if !overdue(o.Modified, b.Expiry.D(), now) {
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
