package ingress

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// timed is a response whose connection notes its deadlines.
type timed struct {
	http.ResponseWriter
	deadlines []time.Time
}

func (w *timed) SetWriteDeadline(t time.Time) error {
	w.deadlines = append(w.deadlines, t)
	return nil
}

// TestTheClientsTimeIsMovedOnceAStep writes quicker than that, and slower.
func TestTheClientsTimeIsMovedOnceAStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		at := began
		conn := &timed{ResponseWriter: httptest.NewRecorder()}
		w := newWriter(conn, httptest.NewRequest("GET", "/", http.NoBody))
		var want []time.Time
		w.WriteHeader(http.StatusOK) // goes with what follows
		for _, c := range []struct {
			pause time.Duration
			moved bool
		}{{0, true}, {0, false}, {stallStep - 1, false}, {1, true}, {stallStep + 1, true}} {
			time.Sleep(c.pause) // fake time
			at = at.Add(c.pause)
			if c.moved {
				want = append(want, at.Add(clientStall))
			}
			if _, err := w.Write([]byte("some")); err != nil {
				t.Fatal(err)
			}
		}
		if took := w.end(); took != at.Sub(began) {
			t.Errorf("took %v", took)
		}
		if !slices.EqualFunc(conn.deadlines, want, time.Time.Equal) {
			t.Errorf("deadlines %v, want %v", conn.deadlines, want)
		}
	})
}
