package supervise

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// followEvery is how often a followed log is looked at.
const followEvery = 100 * time.Millisecond

// Logs writes a replica's log as opt selects it, and with opt.Follow what comes until the replica has
// ended for good or ctx ends. flush is called whenever there is nothing more to read at the moment.
func (s *Supervisor) Logs(ctx context.Context, id string, opt api.LogOptions, w io.Writer, flush func()) error {
	r := s.replica(id)
	if r == nil {
		return notHere(id)
	}
	attempt := r.logs.number()
	if opt.Previous {
		if attempt--; attempt < 0 {
			return api.Errorf(api.CodeNotFound, "replica %s has no previous log: it has not been restarted", id)
		}
	}
	out := &logWriter{w: w, opt: opt, stamped: r.assignment.Variant == api.VariantWasm}
	rd, err := openAttempt(r.logs.dir, attempt)
	if err != nil {
		return err
	}
	defer func() { rd.close() }()
	if err := rd.history(out, opt.Tail); err != nil {
		return err
	}
	if !opt.Follow || opt.Previous {
		err := rd.drain(out, true)
		flush()
		return err
	}
	return r.follow(ctx, rd, out, flush)
}

// follow goes on from attempt to attempt. It ends with ctx or with the replica's last line.
func (r *replica) follow(ctx context.Context, rd *logReader, out *logWriter, flush func()) error {
	for {
		ended := r.ended()
		newest := r.logs.number()
		if err := rd.drain(out, ended || newest > rd.attempt); err != nil {
			return err
		}
		flush()
		switch {
		case newest > rd.attempt:
			rd.to(rd.attempt + 1)
			continue
		case ended || run.Sleep(ctx, followEvery) != nil:
			return nil // who follows a log ends it by going away
		}
	}
}

func (r *replica) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// logReader reads one attempt's files as one stream, over rotations.
type logReader struct {
	dir     string
	attempt int
	old     []*os.File // rotated files, oldest first
	file    *os.File   // the current one; nil while there is none
	offset  int64      // read of file
	line    lineBuffer
}

// openAttempt opens the newest file first: one that is rotated meanwhile is then seen twice, which
// can be told, and not missed.
func openAttempt(dir string, attempt int) (*logReader, error) {
	rd := &logReader{dir: dir, attempt: attempt}
	path := logPath(dir, attempt)
	var seen []os.FileInfo
	for i := 0; i <= api.LogFilesKept; i++ {
		name := path
		if i > 0 {
			name = fmt.Sprintf("%s.%d", path, i)
		}
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("opening the log: %w", err), rd.close())
		}
		info, err := f.Stat()
		if err != nil || slices.ContainsFunc(seen, func(o os.FileInfo) bool { return os.SameFile(o, info) }) {
			f.Close()
			continue
		}
		seen = append(seen, info)
		if i == 0 {
			rd.file = f
			continue
		}
		rd.old = slices.Insert(rd.old, 0, f)
	}
	return rd, nil
}

func (rd *logReader) close() error {
	var errs []error
	for _, f := range append(rd.old, rd.file) {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	rd.old, rd.file = nil, nil
	return errors.Join(errs...)
}

// to moves on to another attempt, whose file may not be there yet.
func (rd *logReader) to(attempt int) {
	rd.close()
	rd.attempt, rd.offset, rd.line = attempt, 0, lineBuffer{}
}

// history writes what is there, its last lines only if tail is not negative.
func (rd *logReader) history(out *logWriter, tail int) error {
	emit := out.line
	var last [][]byte
	if tail >= 0 {
		emit = func(line []byte) error {
			if _, ok := out.selects(line); !ok || tail == 0 {
				return nil
			}
			if len(last) == tail {
				last = last[1:]
			}
			last = append(last, bytes.Clone(line))
			return nil
		}
	}
	for _, f := range rd.old {
		if _, err := rd.line.read(f, emit); err != nil {
			return err
		}
	}
	if err := rd.readFile(emit); err != nil {
		return err
	}
	for _, line := range last {
		if err := out.line(line); err != nil {
			return err
		}
	}
	return nil
}

// drain writes what has come since, and with final also a last line without an end.
func (rd *logReader) drain(out *logWriter, final bool) error {
	if err := rd.reopen(out); err != nil {
		return err
	}
	if err := rd.readFile(out.line); err != nil {
		return err
	}
	if final {
		return rd.line.flush(out.line)
	}
	return nil
}

// reopen follows a rotation: a renamed file is read to its end first, a truncated one from its start.
func (rd *logReader) reopen(out *logWriter) error {
	info, err := os.Stat(logPath(rd.dir, rd.attempt))
	if err != nil {
		return nil // between two files, or not written yet
	}
	if rd.file != nil {
		have, err := rd.file.Stat()
		if err == nil && os.SameFile(have, info) {
			if info.Size() < rd.offset {
				rd.offset = 0
			}
			return nil
		}
		if err := rd.readFile(out.line); err != nil {
			return err
		}
		rd.file.Close()
	}
	rd.file, err = os.Open(logPath(rd.dir, rd.attempt))
	rd.offset = 0
	if err != nil {
		rd.file = nil
	}
	return nil
}

func (rd *logReader) readFile(emit func([]byte) error) error {
	if rd.file == nil {
		return nil
	}
	n, err := rd.line.read(io.NewSectionReader(rd.file, rd.offset, 1<<62), emit)
	rd.offset += n
	return err
}

// lineBuffer cuts a stream into lines, and long lines off at api.MaxLogLineBytes.
type lineBuffer struct{ part []byte }

// maxStored is a whole line in a file: its time, a blank, its text.
const maxStored = api.MaxLogLineBytes + len(time.RFC3339Nano) + 1

func (b *lineBuffer) read(r io.Reader, emit func([]byte) error) (n int64, err error) {
	buf := bufio.NewReaderSize(r, 32<<10)
	for {
		chunk, err := buf.ReadSlice('\n')
		n += int64(len(chunk))
		ended := err == nil
		if ended {
			chunk = chunk[:len(chunk)-1]
		}
		b.part = append(b.part, chunk[:min(len(chunk), maxStored-len(b.part))]...)
		if ended {
			if err := b.flushLine(emit); err != nil {
				return n, err
			}
			continue
		}
		if err == io.EOF {
			return n, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return n, fmt.Errorf("reading the log: %w", err)
		}
	}
}

func (b *lineBuffer) flushLine(emit func([]byte) error) error {
	err := emit(b.part)
	b.part = b.part[:0]
	return err
}

func (b *lineBuffer) flush(emit func([]byte) error) error {
	if len(b.part) == 0 {
		return nil
	}
	return b.flushLine(emit)
}

// logWriter writes the selected lines as the reader wants them.
type logWriter struct {
	w       io.Writer
	opt     api.LogOptions
	stamped bool // lines begin with a time of ours
}

// selects splits off the time that a wasm replica's line begins with. A container's line is its own; a
// time that it begins with is believed and left where it is. Lines without one are always selected:
// nothing tells how old they are.
func (o *logWriter) selects(line []byte) (text []byte, ok bool) {
	stamp, rest, found := bytes.Cut(line, []byte(" "))
	if !found || len(stamp) < len("2006-01-02T15:04:05Z") || stamp[4] != '-' {
		return line, true
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return line, true
	}
	if !o.opt.Since.IsZero() && at.Before(o.opt.Since) {
		return nil, false
	}
	if o.opt.Timestamps || !o.stamped {
		return line, true
	}
	return rest, true
}

func (o *logWriter) line(line []byte) error {
	text, ok := o.selects(line)
	if !ok {
		return nil
	}
	_, err := o.w.Write(append(bytes.Clone(text), '\n'))
	return err
}
