package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// rotateEvery is how often container logs are looked at; their runtime writes them itself.
const rotateEvery = time.Second

// logs are the log files of one replica. Attempt n writes N.log; when that is full it becomes
// N.log.1, and so on up to N.log.3. The files of the last two attempts are kept.
//
// As a Writer it is a wasm replica's output: each line gets the time in front. A container's runtime
// writes to the current file itself, without times.
type logs struct {
	dir string

	mu      sync.Mutex
	attempt int // -1 before the first
	file    *os.File
	size    int64
	line    []byte        // begun, not ended yet; what is over the limit of a line is dropped
	stored  []byte        // room for a line as the file has it
	limit   *rate.Limiter // made with the first line: most idle replicas say nothing
	dropped int           // lines over the limit, not told yet
}

// openLogs goes on after the newest attempt that left a file.
func openLogs(dir, id string) *logs {
	l := &logs{dir: filepath.Join(dir, id), attempt: -1}
	l.each(func(attempt int, _ string) { l.attempt = max(l.attempt, attempt) })
	return l
}

// each calls f for every file of every attempt.
func (l *logs) each(f func(attempt int, path string)) {
	entries, _ := os.ReadDir(l.dir) // none yet is no log yet
	for _, e := range entries {
		name, _, ok := strings.Cut(e.Name(), ".log")
		if n, err := strconv.Atoi(name); ok && err == nil {
			f(n, filepath.Join(l.dir, e.Name()))
		}
	}
}

func (l *logs) number() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.attempt, 0)
}

// path is the current attempt's file.
func (l *logs) path() string { return logPath(l.dir, l.number()) }

func logPath(dir string, attempt int) string { return filepath.Join(dir, strconv.Itoa(attempt)+".log") }

// next begins the next attempt. The file is made now only for those who write to it themselves:
// thousands of replicas that say nothing then cost no file.
func (l *logs) next(create bool) error {
	l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempt++
	l.each(func(attempt int, path string) {
		if attempt < l.attempt-1 {
			_ = os.Remove(path) // tried again at the next attempt
		}
	})
	if !create {
		return nil
	}
	if err := l.open(); err != nil {
		return fmt.Errorf("making the log file: %w", err)
	}
	err := l.file.Close()
	l.file = nil
	return err
}

func (l *logs) open() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(logPath(l.dir, max(l.attempt, 0)), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write takes a replica's output. It never fails and never waits: a replica must not stand still
// because its log cannot be kept. Lines over the rate are dropped and counted.
func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		part, rest, ended := bytes.Cut(p, []byte("\n"))
		l.add(part)
		if ended {
			l.endLine()
		}
		p = rest
	}
	return n, nil
}

func (l *logs) add(part []byte) {
	room := api.MaxLogLineBytes - len(l.line)
	l.line = append(l.line, part[:min(len(part), room)]...)
}

func (l *logs) endLine() {
	now := time.Now().UTC()
	if l.limit == nil {
		l.limit = rate.NewLimiter(api.DefaultLogBytesPerSec, api.DefaultLogBytesPerSec)
	}
	if !l.limit.AllowN(now, len(l.line)+1) {
		l.dropped++
	} else {
		if l.dropped > 0 {
			l.writeLine(now, fmt.Appendf(nil, "[cloudless] %d lines dropped: more than %d bytes a second", l.dropped, api.DefaultLogBytesPerSec))
			l.dropped = 0
		}
		l.writeLine(now, l.line)
	}
	l.line = reusable(l.line)
}

// reusable is the room of a line for the next one: a replica that says little holds little.
func reusable(line []byte) []byte {
	if cap(line) > 4<<10 {
		return nil
	}
	return line[:0]
}

// writeLine drops the line when the disk does not take it; the next one tries again.
func (l *logs) writeLine(now time.Time, line []byte) {
	if l.file == nil && l.open() != nil {
		return
	}
	b := append(now.AppendFormat(l.stored, time.RFC3339Nano), ' ')
	b = append(append(b, line...), '\n')
	l.stored = reusable(b)
	if l.size > 0 && l.size+int64(len(b)) > api.LogFileBytes && l.rotate() != nil {
		return
	}
	n, _ := l.file.Write(b)
	l.size += int64(n)
}

// rotate begins a new file.
func (l *logs) rotate() error {
	path := l.file.Name()
	err := l.file.Close()
	l.file = nil
	if err := errors.Join(err, shift(path)); err != nil {
		return err
	}
	if err := os.Rename(path, path+".1"); err != nil {
		return err
	}
	return l.open()
}

// shift makes room for a new PATH.1.
func shift(path string) error {
	for i := api.LogFilesKept - 1; i >= 1; i-- {
		err := os.Rename(fmt.Sprintf("%s.%d", path, i), fmt.Sprintf("%s.%d", path, i+1))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Close ends the attempt's output; the next Write would open it again. What was said without an end
// of line is kept as a line.
func (l *logs) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) > 0 {
		l.endLine()
	}
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// rotateLogs bounds the logs of containers. It ends with the supervisor.
func (s *Supervisor) rotateLogs(ctx context.Context) error {
	for run.Sleep(ctx, rotateEvery) == nil {
		for _, r := range s.containers() {
			if err := r.logs.copyTruncate(); err != nil {
				s.cfg.Log.Warn().Err(err).Str("replica", r.id).Msg("log not rotated")
			}
		}
	}
	return nil
}

func (s *Supervisor) containers() []*replica {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []*replica
	for _, r := range s.replicas {
		if h, _ := r.running(); h != nil && r.assignment.Variant == api.VariantContainer {
			list = append(list, r)
		}
	}
	return list
}

// copyTruncate rotates a file that someone else holds open for appending. What is written between
// the copy and the cut is lost, and a follower may miss what came within followEvery before it; the
// runtime gives no other way.
func (l *logs) copyTruncate() error {
	path := l.path()
	info, err := os.Stat(path)
	if err != nil || info.Size() <= api.LogFileBytes {
		return nil // an absent file needs no rotation
	}
	if err := shift(path); err != nil {
		return err
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	if _, err := from.Seek(max(0, info.Size()-api.LogFileBytes), io.SeekStart); err != nil {
		return err
	}
	to, err := os.OpenFile(path+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close(), os.Truncate(path, 0))
}
