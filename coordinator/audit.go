package coordinator

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
)

// The audit log is audit.log and its older parts, audit.log.1 the youngest of them. Each line is JSON
// and carries the hash of the line before it, over restarts and parts.
const (
	fileAudit      = "audit.log"
	auditFileBytes = 16 << 20 // then a new part begins
	auditParts     = 8        // kept, the current one included; older ones go
	auditReserve   = 1 << 20  // disk space taken ahead, so that the line about a change can be written
	auditField     = 256      // bytes of one field; the rest is cut
	maxAuditLine   = 16 << 10 // six fields, each byte of which may be escaped as six
)

// auditLine is one security-relevant act.
type auditLine struct {
	Seq       uint64    `json:"seq"` // from 1, without a gap
	Time      time.Time `json:"time"`
	Who       string    `json:"who"`
	What      string    `json:"what"`
	Object    string    `json:"object,omitempty"`
	Outcome   string    `json:"outcome"`
	RequestID string    `json:"requestId,omitempty"`
	Source    string    `json:"source,omitempty"`
	Prev      string    `json:"prev"` // SHA-256 of the line before; "" for the first of all
}

// auditFile is what the log needs of a file.
type auditFile interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

// auditLog appends lines to a file that only its owner can read.
type auditLog struct {
	path    string
	log     zerolog.Logger
	reserve func(f auditFile, from, size int64) error

	mu       sync.Mutex
	f        auditFile
	size     int64
	reserved int64 // up to here the disk's space is ours
	seq      uint64
	prev     string
}

// openAudit goes on where the last line left off. A line that a crash left unfinished is cut off: no
// caller was ever told that it was written. A log whose end cannot be read is set aside, as evidence,
// and a new chain begins; both are told by a line of their own.
func openAudit(path string, log zerolog.Logger) (*auditLog, error) {
	a := &auditLog{path: path, log: log, reserve: fallocate}
	what, told := "audit.repaired", ""
	torn, err := a.resume()
	if errors.Is(err, errDamaged) {
		aside := fmt.Sprintf("%s.damaged-%d", path, time.Now().Unix())
		what, told = "audit.damaged", "the log before this line cannot be read and was kept as "+filepath.Base(aside)
		log.Error().Str("kept", aside).Msg("the audit log is damaged; a new one begins")
		if err = os.Rename(path, aside); err == nil {
			torn, err = a.resume()
		}
	}
	if err != nil {
		return nil, &api.Error{Code: api.CodeInvalid, Message: "audit log: " + err.Error(), Err: err}
	}
	if torn > 0 {
		told = fmt.Sprintf("%d bytes of an unfinished line cut off", torn)
	}
	if told != "" {
		if err := a.write(auditLine{Who: "coordinator", What: what, Outcome: told}, true); err != nil {
			return nil, errors.Join(err, a.f.Close())
		}
	}
	return a, nil
}

var errDamaged = errors.New("the last line is damaged")

func (a *auditLog) resume() (torn int64, err error) {
	f, err := os.OpenFile(a.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	last, torn, err := lastLine(f)
	if err == nil && len(last) == 0 {
		last, err = lastOf(part(a.path, 1))
	}
	if err == nil && len(last) > 0 {
		err = a.continueFrom(last)
	}
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr); err != nil {
		return 0, errors.Join(err, f.Close())
	}
	if a.size = info.Size() - torn; torn > 0 {
		err = f.Truncate(a.size)
	}
	a.f = f
	return torn, err
}

func (a *auditLog) continueFrom(last []byte) error {
	var l auditLine
	if err := json.Unmarshal(last, &l); err != nil || l.Seq == 0 {
		return errDamaged
	}
	a.seq, a.prev = l.Seq, hashLine(last)
	return nil
}

// lastLine is the last whole line of a file, and the length of what follows it.
func lastLine(f *os.File) (line []byte, torn int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	from := max(0, info.Size()-2*maxAuditLine)
	tail := make([]byte, info.Size()-from)
	if _, err := f.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	end := bytes.LastIndexByte(tail, '\n')
	if end < 0 {
		return nil, int64(len(tail)), nil
	}
	return tail[bytes.LastIndexByte(tail[:end], '\n')+1 : end], int64(len(tail) - end - 1), nil
}

func lastOf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	line, _, err := lastLine(f)
	return line, errors.Join(err, f.Close())
}

func hashLine(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// part is the path of an older part of the log; part 0 is the current one.
func part(path string, n int) string {
	if n == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, n)
}

// audited runs a change and puts one line about it into the log before it returns. If the log has no
// room for that line the change is not made. Object is asked for after the change.
func (a *auditLog) audited(l auditLine, object func() string, do func() error) error {
	if err := a.ready(); err != nil {
		return &api.Error{Code: api.CodeUnavailable, Message: "nothing was changed: the audit log cannot be written: " + err.Error(), Hint: "free space on the coordinator's disk", Err: err}
	}
	err := do()
	l.Object, l.Outcome = object(), "ok"
	if err != nil {
		l.Outcome = string(api.CodeOf(err))
	}
	if werr := a.write(l, true); werr != nil && err == nil {
		return &api.Error{Code: api.CodeInternal, Message: "the change was made, but the audit log could not be written: " + werr.Error(), Hint: "look before you repeat it; check the coordinator's disk", Err: werr}
	}
	return err
}

// note writes a line about what was seen rather than asked for; no caller waits for it.
func (a *auditLog) note(l auditLine) {
	if err := a.write(l, false); err != nil {
		a.log.Error().Err(err).Str("what", l.What).Msg("audit line not written")
	}
}

// ready takes the disk's space ahead, so that a later write finds it.
func (a *auditLog) ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.reserved >= a.size+auditReserve/2 {
		return nil
	}
	if err := a.reserve(a.f, a.size, auditReserve); err != nil {
		return err
	}
	a.reserved = a.size + auditReserve
	return nil
}

// write appends one line; durably if sync is set.
func (a *auditLog) write(l auditLine, sync bool) error {
	f, err := a.append(l)
	if err != nil || !sync {
		return err
	}
	if err := f.Sync(); !errors.Is(err, os.ErrClosed) { // closed: a new part began, which has synced it
		return err
	}
	return nil
}

func (a *auditLog) append(l auditLine) (auditFile, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.size >= auditFileBytes {
		if err := a.rotate(); err != nil {
			return nil, err
		}
	}
	l.Seq, l.Time, l.Prev = a.seq+1, time.Now().UTC(), a.prev
	for _, field := range []*string{&l.Who, &l.What, &l.Object, &l.Outcome, &l.RequestID, &l.Source} {
		*field = (*field)[:min(len(*field), auditField)]
	}
	data, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	if _, err := a.f.Write(append(data, '\n')); err != nil {
		return nil, errors.Join(err, a.f.Truncate(a.size)) // half a line would break the chain
	}
	a.size += int64(len(data)) + 1
	a.seq, a.prev = l.Seq, hashLine(data)
	return a.f, nil
}

// rotate begins a new part and drops the oldest, unless a number is free: then an earlier try was cut short, and
// what it has moved stays where it is.
func (a *auditLog) rotate() error {
	free := 0
	for free < auditParts-1 && exists(part(a.path, free)) {
		free++
	}
	for n := free; n > 0; n-- {
		if err := os.Rename(part(a.path, n-1), part(a.path, n)); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(a.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(a.f.Sync(), a.f.Close())
	a.f, a.size, a.reserved = f, 0, 0
	return err
}

// Close closes the file.
func (a *auditLog) Close() error { return a.f.Close() }

// fallocate takes space without changing the file's length. Where the file system cannot, the write
// itself will tell.
func fallocate(f auditFile, from, size int64) error {
	file, ok := f.(*os.File)
	if !ok {
		return nil
	}
	const keepSize = 1 // FALLOC_FL_KEEP_SIZE
	err := syscall.Fallocate(int(file.Fd()), keepSize, from, size)
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return nil
	}
	return err
}

// AuditSummary is what VerifyAudit found: how many lines, the numbers of the first and the last, and
// the hash of the last, by which a cut end can be seen if it was kept elsewhere.
type AuditSummary struct {
	Files []string `json:"files"`
	Lines uint64   `json:"lines"`
	First uint64   `json:"first"`
	Last  uint64   `json:"last"`
	Head  string   `json:"head"`
}

// AuditFiles lists the parts of the log in a coordinator's data folder, the oldest first.
func AuditFiles(dataDir string) ([]string, error) {
	path := filepath.Join(dataDir, fileAudit)
	var files []string
	for n := auditParts - 1; n > 0; n-- {
		if _, err := os.Stat(part(path, n)); err == nil {
			files = append(files, part(path, n))
		}
	}
	if _, err := os.Stat(path); err != nil {
		return nil, api.Errorf(api.CodeNotFound, "no audit log: %w", err).WithHint("give the data folder of a coordinator")
	}
	return append(files, path), nil
}

// VerifyAudit follows the chain through the parts of a log, the oldest first. A line that was
// changed, added or taken out is an error that names the place.
func VerifyAudit(files []string) (AuditSummary, error) {
	s := AuditSummary{Files: files}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return s, err
		}
		err = s.follow(f, name)
		if err = errors.Join(err, f.Close()); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *AuditSummary) follow(r io.Reader, name string) error {
	in := bufio.NewReaderSize(r, maxAuditLine)
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err == nil {
			err = s.next(bytes.TrimSuffix(line, []byte("\n")))
		}
		if err != nil {
			return api.Errorf(api.CodeInternal, "%s, line %d: the chain breaks: %w", name, n, err).WithHint("what is before it is as it was written; keep the file as evidence")
		}
	}
}

func (s *AuditSummary) next(line []byte) error {
	var l auditLine
	if err := json.Unmarshal(line, &l); err != nil {
		return fmt.Errorf("not a line of the log: %w", err)
	}
	switch {
	case s.Lines == 0 && l.Seq == 1 && l.Prev != "":
		return errors.New("it says that it is the first, and names one before it")
	case s.Lines > 0 && l.Seq != s.Last+1:
		return fmt.Errorf("its number is %d where %d comes next", l.Seq, s.Last+1)
	case s.Lines > 0 && l.Prev != s.Head:
		return errors.New("the line before it is not the one that it was written after")
	}
	if s.Lines == 0 {
		s.First = l.Seq
	}
	s.Lines++
	s.Last, s.Head = l.Seq, hashLine(line)
	return nil
}
