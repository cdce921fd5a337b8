package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/state"
)

// recordStorage tells of what commands have changed that people want to know, whichever door they came by.
func (s *Server) recordStorage(ctx context.Context, cmds []meta.Command, results []meta.Result) {
	for i, c := range cmds {
		if results[i].Err != nil {
			continue
		}
		e, ok := storageEvent(c)
		if !ok {
			continue
		}
		e.Time = time.Now().UTC()
		if _, _, err := s.propose(ctx, state.Command{RecordEvent: &e}); err != nil {
			s.log.Warn().Err(err).Str("type", e.Type).Str("resource", e.Resource).Msg("event not recorded")
		}
	}
}

func storageEvent(c meta.Command) (e api.Event, ok bool) {
	e.Severity = api.SeverityInfo
	switch {
	case c.CreateBucket != nil:
		e.Type, e.Resource, e.Message = api.EventBucketCreated, "bucket/"+c.CreateBucket.Name, fmt.Sprintf("bucket %s was created", c.CreateBucket.Name)
	case c.DeleteBucket != nil:
		e.Type, e.Resource, e.Message = api.EventBucketDeleted, "bucket/"+c.DeleteBucket.Name, fmt.Sprintf("bucket %s was deleted", c.DeleteBucket.Name)
	case c.Restore != nil && c.Restore.Last:
		e.Type, e.Resource, e.Severity = api.EventStorageRestored, "cluster", api.SeverityWarning
		e.Message = fmt.Sprintf("the object store's metadata was replaced by a backup; no chunks are collected for %v", holdCollection)
	default:
		return e, false
	}
	return e, true
}
