package coordinator

import (
	"context"
	"testing"
)

// What still runs when a coordinator is closed has what it works on until it has ended.
func TestNothingIsClosedUnderWhatStillRuns(t *testing.T) {
	c := newCluster(t, 1)
	s := c.servers[0]
	c.servers[0] = nil // it is closed here
	logClosed := make(chan struct{})
	s.group.Go("reader", func(ctx context.Context) error {
		<-logClosed
		v := s.objects.View()
		return v.Close()
	})
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	eventually(t, "the log to be closed", func() bool { return s.raft.Stats()["state"] == "Shutdown" })
	if err := s.raft.Close(); err != nil { // which waits for the other call
		t.Error(err)
	}
	close(logClosed)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
