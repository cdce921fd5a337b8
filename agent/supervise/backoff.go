package supervise

import (
	"math/rand/v2"
	"time"

	"github.com/cloudless/cloudless/api"
)

// backoff is the pause before a replica starts again. It doubles from min to max, and starts anew
// once a replica has run for ten times max.
type backoff struct{ min, max, last time.Duration }

// jitter keeps replicas that fell together from rising together: a pause is up to a fifth shorter.
const jitter = 0.2

func (b *backoff) next(e *ending) time.Duration {
	lo := max(b.min, time.Millisecond)
	hi := max(b.max, lo)
	switch {
	case api.CodeOf(e.err) == api.CodeInvalid:
		b.last = hi // the same artifact will not become right by itself
	case b.last == 0 || e.ran >= 10*hi:
		b.last = lo
	default:
		b.last = min(2*b.last, hi)
	}
	return b.last - time.Duration(rand.Float64()*jitter*float64(b.last))
}
