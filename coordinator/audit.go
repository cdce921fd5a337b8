package coordinator

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
)

// auditLine is one security-relevant act.
type auditLine struct {
	Time      time.Time `json:"time"`
	Who       string    `json:"who"`
	What      string    `json:"what"`
	Object    string    `json:"object,omitempty"`
	Outcome   string    `json:"outcome"`
	RequestID string    `json:"requestId,omitempty"`
	Source    string    `json:"source,omitempty"`
	Prev      string    `json:"prev"` // SHA-256 of the line before: a cut line breaks the chain
}

// auditLog appends lines to a file that only its owner can read.
type auditLog struct {
	mu   sync.Mutex
	f    *os.File
	prev string
}

func openAudit(path string) (*auditLog, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, &api.Error{Code: api.CodeInvalid, Message: "audit log: " + err.Error(), Err: err}
	}
	return &auditLog{f: f}, nil
}

// write appends one line. A line that cannot be written is reported by the next write's chain.
func (a *auditLog) write(l auditLine) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l.Time, l.Prev = time.Now().UTC(), a.prev
	data, err := json.Marshal(l)
	if err != nil {
		return
	}
	if _, err := a.f.Write(append(data, '\n')); err != nil {
		return
	}
	sum := sha256.Sum256(data)
	a.prev = hex.EncodeToString(sum[:])
}

// Close closes the file.
func (a *auditLog) Close() error { return a.f.Close() }
