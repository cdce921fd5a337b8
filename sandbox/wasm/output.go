package wasm

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"github.com/cloudless/cloudless/api"
)

// sink is a replica's log: whole lines, from all its instances, at no more than
// api.DefaultLogBytesPerSec. What is over that is dropped, and one line tells how much.
type sink struct {
	mu      sync.Mutex
	w       io.Writer
	limit   *rate.Limiter // made with the first line: most idle replicas say nothing
	dropped int
	closed  bool
}

func newSink(w io.Writer) *sink {
	if w == nil {
		w = io.Discard
	}
	return &sink{w: w}
}

// line writes one line, which ends in LF.
func (s *sink) line(line []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if s.limit == nil {
		s.limit = rate.NewLimiter(api.DefaultLogBytesPerSec, api.DefaultLogBytesPerSec)
	}
	if !s.limit.AllowN(epoch.Add(sinceEpoch()), len(line)) { // time.Now would read two clocks
		s.dropped += len(line)
		return
	}
	s.tellDropped()
	_, _ = s.w.Write(line) // a log that cannot be written does not stop the guest
}

func (s *sink) printf(format string, args ...any) {
	s.line(appendOneLine(nil, fmt.Appendf(nil, format, args...)))
}

// appendOneLine adds text to the beginning of a line and ends it. What would end it before is a space.
func appendOneLine(line, text []byte) []byte {
	begun := len(line)
	line = append(line, text[:min(len(text), api.MaxLogLineBytes)]...)
	for n, c := range line[begun:] {
		if c == '\n' || c == '\r' {
			line[begun+n] = ' '
		}
	}
	if !utf8.Valid(line) {
		line = bytes.ToValidUTF8(line, []byte("\uFFFD"))
	}
	return append(line, '\n')
}

func (s *sink) lost(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped += n
}

func (s *sink) tellDropped() {
	if s.dropped == 0 {
		return
	}
	fmt.Fprintf(s.w, "cloudless: %d bytes of output were dropped: more than %d bytes a second, or lines longer than %d bytes\n",
		s.dropped, api.DefaultLogBytesPerSec, api.MaxLogLineBytes)
	s.dropped = 0
}

// Close tells what was dropped last; later lines go nowhere.
func (s *sink) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.tellDropped()
		s.closed = true
	}
}

// lines cuts a guest's output into lines for a sink. A line longer than api.MaxLogLineBytes is cut.
// It belongs to one instance, whose calls come one after the other.
type lines struct {
	sink    *sink
	buf     []byte
	cutting bool // the rest of the present line is dropped
}

// Write implements io.Writer and never fails.
func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			l.add(p)
			break
		}
		l.add(p[:end])
		l.flush()
		p = p[end+1:]
	}
	return n, nil
}

func (l *lines) add(p []byte) {
	if l.cutting {
		l.sink.lost(len(p))
		return
	}
	room := api.MaxLogLineBytes - len(l.buf)
	if len(p) > room {
		l.sink.lost(len(p) - room)
		p, l.cutting = p[:room], true
	}
	l.buf = append(l.buf, p...)
}

// flush ends the present line.
func (l *lines) flush() {
	l.sink.line(append(l.buf, '\n'))
	l.buf, l.cutting = l.buf[:0], false
}

// end writes out a last line that had no LF.
func (l *lines) end() {
	if len(l.buf) > 0 {
		l.flush()
	}
}
