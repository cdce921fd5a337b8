package agent

import (
	"testing"

	"github.com/cloudless/cloudless/api"
)

// A node that stops asks for its replicas to be moved until they are, whatever has ended its drain meanwhile:
// a session that began anew registers the node, as a start does.
func TestAStopAsksUntilNothingRuns(t *testing.T) {
	s := newSite(t)
	c := s.coordinator("s-1", "127.0.0.1:0")
	digest := digestOf(module)
	c.artifacts[digest] = module
	c.set = assigned(1, 1, digest, "r-1")
	cfg := c.config("one", wasmDriver(hello))
	cfg.OnStop = OnStopDrain
	a := c.open(cfg)
	c.sees("a ready replica", func() bool { return c.last("r-1").Ready })
	c.change(func() {
		c.refuse = func(path string) error {
			if path == api.PathDrainSelf {
				if c.drains++; c.drains == 2 { // the first was forgotten
					c.tell(func() { c.set = assigned(1, 2, digest) })
				}
			}
			return nil
		}
	})
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if c.mu.Lock(); c.drains < 2 || len(c.goodbyes) != 1 {
		t.Errorf("asked %d times, said goodbye %d times", c.drains, len(c.goodbyes))
	}
	c.mu.Unlock()
}
