package supervise

import (
	"bytes"
	"context"
	"io"
	"os"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// followInterval is how often a followed log is looked at.
const followInterval = 100 * time.Millisecond

// Logs writes a replica's log to w, the lines that opt selects, and with Follow what comes until the
// replica has ended for good or ctx ends. flush is called whenever w should be sent on.
func (s *Supervisor) Logs(ctx context.Context, id string, opt api.LogOptions, w io.Writer, flush func()) error {
	r := s.replica(id)
	if r == nil {
		return notHere(id)
	}
	lr := &logReader{l: r.logs, opt: opt, timed: r.assignment.Variant == api.VariantWasm, w: w, attempt: r.logs.number()}
	if opt.Previous {
		if lr.attempt--; lr.attempt < 0 || len(r.logs.existing(lr.attempt)) == 0 {
			return api.Errorf(api.CodeNotFound, "replica %s has no earlier log: it was not restarted here", id)
		}
	}
	if err := lr.history(); err != nil {
		return err
	}
	flush()
	for opt.Follow && !opt.Previous {
		ended := r.status().State.Terminal()
		n, err := lr.more()
		if err != nil {
			return err
		}
		if n > 0 {
			flush()
		}
		if ended || run.Sleep(ctx, followInterval) != nil {
			return nil
		}
	}
	return nil
}

// logReader reads one replica's log from a place onwards.
type logReader struct {
	l       *logs
	opt     api.LogOptions
	timed   bool
	w       io.Writer
	attempt int
	offset  int64 // in the current file of the attempt
	info    os.FileInfo
}

// history writes the lines that are there, the last Tail of them if that is not negative.
func (lr *logReader) history() error {
	var lines [][]byte
	files := lr.l.existing(lr.attempt)
	for i, f := range files {
		data, err := os.ReadFile(f) // at most twice api.LogFileBytes
		if err != nil {
			continue // rotated away meanwhile
		}
		end := bytes.LastIndexByte(data, '\n') + 1
		if i == len(files)-1 {
			lr.offset = int64(end)
			lr.info, _ = os.Stat(f) // nil: found again by more
		}
		for line := range bytes.Lines(data[:end]) {
			if text, ok := lr.selects(line); ok {
				lines = append(lines, text)
			}
		}
	}
	if t := lr.opt.Tail; t >= 0 && t < len(lines) {
		lines = lines[len(lines)-t:]
	}
	for _, line := range lines {
		if _, err := lr.w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// selects strips or keeps a line's time and tells whether the line is wanted.
func (lr *logReader) selects(line []byte) ([]byte, bool) {
	if !lr.timed {
		return line, true
	}
	stamp, text, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return line, true
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	switch {
	case err != nil:
		return line, true
	case at.Before(lr.opt.Since):
		return nil, false
	case lr.opt.Timestamps:
		return line, true
	}
	return text, true
}

// more writes what was added since the last look. A file that was replaced or emptied is read to its
// end under its rotated name first, then from its beginning; a new attempt likewise.
func (lr *logReader) more() (int, error) {
	total := 0
	path := lr.l.of(lr.attempt)
	if st, err := os.Stat(path); err == nil && lr.info != nil && (!os.SameFile(st, lr.info) || st.Size() < lr.offset) {
		n, err := lr.read(path + ".1")
		if total += n; err != nil {
			return total, err
		}
		lr.offset, lr.info = 0, st
	} else if err == nil {
		lr.info = st
	}
	n, err := lr.read(path)
	if total += n; err != nil {
		return total, err
	}
	if now := lr.l.number(); now != lr.attempt {
		lr.attempt, lr.offset, lr.info = now, 0, nil
		n, err = lr.read(lr.l.of(now))
		total += n
	}
	return total, err
}

// read writes the whole lines of a file from the offset on.
func (lr *logReader) read(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil // not written yet, or rotated away
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, lr.offset, 2*api.LogFileBytes))
	if err != nil {
		return 0, err
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	lr.offset += int64(len(data))
	n := 0
	for line := range bytes.Lines(data) {
		if text, ok := lr.selects(line); ok {
			m, err := lr.w.Write(text)
			if n += m; err != nil {
				return n, err
			}
		}
	}
	return n, nil
}
