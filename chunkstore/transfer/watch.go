package transfer

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// watchdog ends a call that makes no progress, however long it takes otherwise.
type watchdog struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

var errStalled = errors.New("no progress")

func watch(ctx context.Context) *watchdog {
	w := &watchdog{}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(stallTime, func() { w.cancel(errStalled) })
	return w
}

func (w *watchdog) progress() { w.timer.Reset(stallTime) }

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

func (w *watchdog) stalled() bool { return context.Cause(w.ctx) == errStalled }

// sending is the body of a request: what is taken from it is progress. The transport may read it until
// it has closed it, and so may outlive the call; closed tells when.
type sending struct {
	r      io.Reader
	watch  *watchdog
	once   sync.Once
	closed chan struct{}
}

// Read gives what is to be sent.
func (s *sending) Read(p []byte) (int, error) {
	s.watch.progress()
	return s.r.Read(p)
}

// Close says that nothing is read any more.
func (s *sending) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// receiving is the body of an answer: what comes is progress.
type receiving struct {
	io.ReadCloser
	watch *watchdog
}

// Read gives what has come.
func (r receiving) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 {
		r.watch.progress()
	}
	return n, err
}
