package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/internal/run"
)

// Pace of expiry. A large bucket is looked through in short plans with pauses between, so that writes
// and reads find the coordinator free.
const (
	expiryInterval = 10 * time.Second
	expiryPause    = 100 * time.Millisecond
)

// keepExpiry lets upload sessions and objects go whose time is over, while this coordinator leads. It
// looks at what is there, again and again: what one look or entry has missed the next one finds. It ends
// with the leadership.
func (s *Server) keepExpiry(ctx context.Context) error {
	for {
		if err := s.expire(ctx); err != nil && ctx.Err() == nil {
			s.log.Debug().Err(err).Msg("not all that has expired is gone yet")
		}
		if run.Sleep(ctx, expiryInterval) != nil {
			return nil
		}
	}
}

func (s *Server) expire(ctx context.Context) error {
	for more := true; more; {
		var err error
		if more, err = s.expireSessions(ctx); err != nil {
			return err
		}
	}
	buckets, err := s.expiringBuckets()
	for _, name := range buckets {
		err = errors.Join(err, s.expireObjects(ctx, name), s.expireUploads(ctx, name, time.Now().UTC()))
	}
	return err
}

// expireUploads aborts the multipart uploads that a bucket's rules give up: one entry, as a bucket has no
// more of them than an entry has commands. One that has ended meanwhile refuses, and nothing is missing.
func (s *Server) expireUploads(ctx context.Context, bucket string, now time.Time) error {
	v := s.objects.View()
	cmds, err := objects.PlanUploads(v, bucket, now)
	if err = errors.Join(err, v.Close()); err != nil || len(cmds) == 0 {
		return err
	}
	_, err = s.applyMeta(ctx, cmds...)
	return err
}

// expireSessions ends what one command can; more tells whether there may be others.
func (s *Server) expireSessions(ctx context.Context) (more bool, err error) {
	v := s.objects.View()
	cmd, err := objects.PlanSessions(v, time.Now().UTC())
	if err = errors.Join(err, v.Close()); err != nil || cmd == nil {
		return false, err
	}
	_, err = s.applyMeta(ctx, *cmd)
	return len(cmd.ExpireSessions.IDs) == objects.MaxExpired, err
}

func (s *Server) expiringBuckets() (names []string, err error) {
	v := s.objects.View()
	all, err := objects.Buckets(v)
	for _, b := range all {
		if b.Expiry > 0 || len(b.Lifecycle) > 0 {
			names = append(names, b.Name)
		}
	}
	return names, errors.Join(err, v.Close())
}

func (s *Server) expireObjects(ctx context.Context, bucket string) error {
	for begin := ""; ; {
		cmd, next, err := s.planExpiry(bucket, begin)
		if err == nil && cmd != nil {
			_, err = s.applyMeta(ctx, *cmd)
		}
		if err != nil || next == "" {
			return err
		}
		if err := run.Sleep(ctx, expiryPause); err != nil {
			return err
		}
		begin = next
	}
}

func (s *Server) planExpiry(bucket, begin string) (cmd *meta.Command, next string, err error) {
	v := s.objects.View()
	cmd, next, err = objects.PlanExpiry(v, bucket, begin, time.Now().UTC())
	return cmd, next, errors.Join(err, v.Close())
}
