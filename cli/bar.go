package cli

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// barEvery is how often a bar is drawn at most.
const barEvery = 100 * time.Millisecond

// bar shows on a terminal how far a transfer is. It may be added to by several at the same time.
type bar struct {
	e     *Env
	p     *progress
	what  string
	total int64 // -1: not known

	mu           sync.Mutex
	done         int64
	begun, drawn time.Time
}

func (e *Env) bar(what string, total int64) *bar {
	return &bar{e: e, p: e.progress(), what: what, total: total, begun: e.Now()}
}

func (b *bar) add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done += n
	if now := b.e.Now(); now.Sub(b.drawn) >= barEvery {
		b.drawn = now
		b.p.line("%s", barLine(b.what, b.done, b.total, now.Sub(b.begun)))
	}
}

func (b *bar) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.p.clear()
}

// barWidth is that of the drawn bar.
const barWidth = 24

// barLine draws a transfer of which so much is done after some time.
func barLine(what string, done, total int64, took time.Duration) string {
	rate := int64(float64(done) / max(took.Seconds(), 0.001))
	if total <= 0 {
		return fmt.Sprintf("%s: %s, %s/s", what, human(done), human(rate))
	}
	share := float64(min(done, total)) / float64(total)
	full := int(share * barWidth)
	line := fmt.Sprintf("%s [%s%s] %3d%% %s of %s, %s/s", what, strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), int(share*100), human(done), human(total), human(rate))
	if left := total - done; rate > 0 && left > 0 {
		line += fmt.Sprintf(", %s left", short(time.Duration(float64(left)/float64(rate)*float64(time.Second))))
	}
	return line
}
