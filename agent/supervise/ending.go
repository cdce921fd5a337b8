package supervise

import (
	"strconv"
	"time"

	"github.com/cloudless/cloudless/sandbox"
)

// ending is how one start of a replica ended: err if it did not come to run.
type ending struct {
	err        error
	retryAdopt bool // it may run; the driver could not tell
	exit       sandbox.Exit
	sick       string // why it was ended by us: its liveness probe
	ran        time.Duration
}

func (e *ending) well() bool { return e.err == nil && e.sick == "" && e.exit.Code == 0 }

func (e *ending) reason() string {
	switch {
	case e.err != nil:
		return e.err.Error()
	case e.sick != "":
		return e.sick
	case e.exit.Reason != "":
		return e.exit.Reason
	}
	return "exited with code " + strconv.Itoa(e.exit.Code)
}

func (e *ending) code() *int {
	if e.err != nil {
		return nil
	}
	code := e.exit.Code
	return &code
}

// exitOf is how an ended replica ended; a driver that gave it up does not know.
func exitOf(h sandbox.Handle) sandbox.Exit {
	select {
	case <-h.Done():
		return h.Exit()
	default:
		return sandbox.Exit{Code: 137, Reason: "stopped"}
	}
}
