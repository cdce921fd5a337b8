package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
)

// rotateInterval is how often the logs of containers, which the shim writes, are looked at.
const rotateInterval = 5 * time.Second

// logs are a replica's log files: one for each attempt, N.log, with rotated ones N.log.1 … behind
// it. The current attempt and the one before are kept. Lines of wasm replicas begin with their time;
// a container's file is written raw by its shim.
type logs struct {
	dir string

	mu      sync.Mutex
	attempt int // -1 before the first
	file    *os.File
	size    int64
	partial []byte
}

// openLogs looks for what an earlier process left. It makes nothing: most replicas never write.
func openLogs(dir, id string) *logs {
	l := &logs{dir: filepath.Join(dir, id), attempt: -1}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return l // not there yet
	}
	for _, e := range entries {
		if n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".log")); err == nil {
			l.attempt = max(l.attempt, n)
		}
	}
	return l
}

// number is the attempt that is being written, from 0.
func (l *logs) number() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.attempt, 0)
}

func (l *logs) path() string { return l.of(l.number()) }

func (l *logs) of(attempt int) string { return filepath.Join(l.dir, strconv.Itoa(attempt)+".log") }

// next begins a new attempt and removes those before the previous one. For a container the file is
// made at once, since its shim opens it.
func (l *logs) next(container bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
	l.attempt++
	if l.attempt >= 2 {
		for _, f := range l.chain(l.attempt - 2) {
			if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove an old log: %w", err)
			}
		}
	}
	if container {
		if err := l.open(); err != nil {
			return err
		}
		l.close()
	}
	return nil
}

func (l *logs) open() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return fmt.Errorf("make the log folder: %w", err)
	}
	f, err := os.OpenFile(l.of(max(l.attempt, 0)), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, st.Size()
	return nil
}

func (l *logs) close() {
	if l.file != nil {
		_ = l.file.Close() // lines were handed to the kernel already
		l.file = nil
	}
	l.partial = nil
}

// Close lets go of the file.
func (l *logs) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.partial) > 0 {
		_ = l.line(l.partial) // nobody is left to tell
	}
	l.close()
}

// Write adds output, whole lines at a time, each with its time before it. A line over
// api.MaxLogLineBytes is cut.
func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := p
	for {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		line := rest[:i]
		if len(l.partial) > 0 {
			line = append(l.partial, line...)
			l.partial = nil
		}
		if err := l.line(line); err != nil {
			return 0, err
		}
		rest = rest[i+1:]
	}
	if room := api.MaxLogLineBytes - len(l.partial); room > 0 {
		l.partial = append(l.partial, rest[:min(room, len(rest))]...)
	}
	return len(p), nil
}

func (l *logs) line(text []byte) error {
	if l.file == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	text = text[:min(len(text), api.MaxLogLineBytes)]
	buf := append(time.Now().UTC().AppendFormat(make([]byte, 0, len(text)+40), time.RFC3339Nano), ' ')
	buf = append(append(buf, text...), '\n')
	n, err := l.file.Write(buf)
	l.size += int64(n)
	if err == nil && l.size >= api.LogFileBytes {
		err = l.rotate()
	}
	return err
}

// chain names the files of an attempt, oldest first.
func (l *logs) chain(attempt int) []string {
	base := l.of(attempt)
	var out []string
	for i := api.LogFilesKept; i >= 1; i-- {
		out = append(out, base+"."+strconv.Itoa(i))
	}
	return append(out, base)
}

// rotate renames the files of the current attempt; the next line begins a new one.
func (l *logs) rotate() error {
	_ = l.file.Close() // lines were handed to the kernel already
	l.file = nil
	return l.shift(func(from, to string) error { return os.Rename(from, to) })
}

func (l *logs) shift(last func(from, to string) error) error {
	files := l.chain(max(l.attempt, 0))
	for i := 1; i < len(files); i++ {
		move := os.Rename
		if i == len(files)-1 {
			move = last
		}
		if err := move(files[i], files[i-1]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("rotate the log: %w", err)
		}
	}
	return nil
}

// trim rotates a log that another process appends to: a copy is made, then the file is emptied. What
// is written between the two is lost; the price of a writer that does not reopen.
func (l *logs) trim() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	st, err := os.Stat(l.of(max(l.attempt, 0)))
	if err != nil || st.Size() < api.LogFileBytes {
		return nil // not written yet, or small
	}
	return l.shift(func(from, to string) error {
		if err := copyFile(from, to); err != nil {
			return err
		}
		return os.Truncate(from, 0)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(in, 2*api.LogFileBytes))
	return errors.Join(err, out.Close())
}

// rotateLogs keeps the logs of containers small; it ends with the supervisor.
func (s *Supervisor) rotateLogs(ctx context.Context) error {
	for run.Sleep(ctx, rotateInterval) == nil {
		s.mu.RLock()
		var list []*replica
		for _, r := range s.replicas {
			if r.assignment.Variant == api.VariantContainer {
				list = append(list, r)
			}
		}
		s.mu.RUnlock()
		for _, r := range list {
			if err := r.logs.trim(); err != nil {
				s.cfg.Log.Warn().Err(err).Str("replica", r.id).Msg("log not rotated")
			}
		}
	}
	return nil
}

// existing names the files of an attempt that are there, oldest first.
func (l *logs) existing(attempt int) []string {
	return slices.DeleteFunc(l.chain(attempt), func(f string) bool {
		_, err := os.Stat(f)
		return err != nil
	})
}
