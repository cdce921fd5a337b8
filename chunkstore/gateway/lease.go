package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

const (
	// renewEvery is how often a session is renewed while its upload lasts: twice may fail.
	renewEvery = api.SessionLifetime / 4
	// leaseTime bounds the calls that renew and end a session.
	leaseTime = 30 * time.Second
)

// lease is an upload session that is kept alive until its upload is done. It is opened in the
// background, so that the first bytes are read meanwhile; nothing is stored before it is open, for
// nodes drop what sessions pin that nobody knows.
type lease struct {
	g      *Gateway
	opened chan struct{} // closed when what follows holds

	session *api.UploadSession
	bucket  *api.Bucket
	err     error

	mu    sync.Mutex
	timer *time.Timer // nil before it is open and after it has ended
	ended bool
}

func (g *Gateway) lease(ctx context.Context, bucket string) *lease {
	l := &lease{g: g, opened: make(chan struct{}), err: errEnded}
	g.spawn("open an upload session", func(context.Context) {
		l.session, l.bucket, l.err = g.openSession(ctx, bucket)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.err == nil && !l.ended {
			l.timer = time.AfterFunc(renewEvery, func() { g.spawn("renew an upload session", l.renew, func() {}) })
		}
	}, func() { close(l.opened) })
	return l
}

// openSession opens a session. When nobody knows whether that has happened, another is opened: the
// first then ends by itself.
func (g *Gateway) openSession(ctx context.Context, bucket string) (*api.UploadSession, *api.Bucket, error) {
	r, err := g.tryOpenSession(ctx, bucket)
	if ambiguous(err) && ctx.Err() == nil {
		r, err = g.tryOpenSession(ctx, bucket)
	}
	if err != nil {
		return nil, nil, err
	}
	g.buckets.set(r.Bucket)
	return r.Session, r.Bucket, nil
}

func (g *Gateway) tryOpenSession(ctx context.Context, bucket string) (meta.Result, error) {
	return g.apply(ctx, meta.Command{OpenSession: &meta.OpenSession{ID: api.NewID("up"), Bucket: bucket}})
}

// wait returns when the session is open.
func (l *lease) wait(ctx context.Context) error {
	select {
	case <-l.opened:
		return l.err
	case <-ctx.Done():
		return cutOff(ctx)
	}
}

func (l *lease) owner() string { return SessionOwner(l.session.ID) }

// renew is called by the timer. That it fails is found when the object is put.
func (l *lease) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaseTime)
	defer cancel()
	if _, err := l.g.apply(ctx, meta.Command{RenewSession: &meta.RenewSession{ID: l.session.ID}}); err != nil {
		l.g.cfg.Log.Warn().Err(err).Str("session", l.session.ID).Msg("an upload session could not be renewed")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Reset(renewEvery)
	}
}

// stop lets the session be: it has ended with the object that was put. A client's own session has no
// lease.
func (l *lease) stop() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// end ends the session of an upload that failed, so that nodes let its chunks go. If that cannot be
// said now, it ends by itself.
func (l *lease) end() {
	if l == nil {
		return
	}
	l.stop()
	l.g.spawn("end an upload session", func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, leaseTime)
		defer cancel()
		if l.wait(ctx) != nil {
			return
		}
		if _, err := l.g.apply(ctx, meta.Command{EndSession: &meta.EndSession{ID: l.session.ID}}); err != nil {
			l.g.cfg.Log.Warn().Err(err).Str("session", l.session.ID).Msg("an upload session could not be ended; it does by itself")
		}
	}, func() {})
}

// cutOff is the error of a call whose context has ended.
func cutOff(ctx context.Context) error {
	return api.Errorf(api.CodeTimeout, "the request was cut off: %w", context.Cause(ctx))
}
