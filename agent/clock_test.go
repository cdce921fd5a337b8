package agent

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// A node that joins by a coordinator whose clock is ahead is told why nobody will accept it yet.
func TestACertificateThatDoesNotCountYetIsTold(t *testing.T) {
	s := newSite(t)
	c := s.coordinator("s-1", "127.0.0.1:0")
	s.ahead = 5 * time.Hour
	var log bytes.Buffer
	cfg := c.config("one")
	cfg.Log = zerolog.New(zerolog.SyncWriter(&log))
	a := c.open(cfg)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); !strings.Contains(text, "no coordinator will accept this node") || !strings.Contains(text, "4h0m0s too early") {
		t.Errorf("the log says %s", text)
	}
}
