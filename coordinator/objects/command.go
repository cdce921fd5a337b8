package objects

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// EntryFormat is the first byte of every encoded entry. The coordinators' other commands begin with another.
const EntryFormat = 'O'

// entryVersion is the second.
const entryVersion = 1

// Limits of one entry of the log. Many commands share one: its flush is what a small put costs.
const (
	MaxEntryCommands = 1_024
	MaxEntryBytes    = 8 << 20
	// MaxManifestBytes bounds the manifest in one command, about 60,000 chunks; what is larger comes in parts.
	MaxManifestBytes = 2 << 20
	// MaxExpired is how many rows one command may let go.
	MaxExpired = 1_000
	maxIDBytes = 64
)

// What may be asked for is part of the wire; here it goes by the same names.
type (
	Command        = meta.Command
	Condition      = meta.Condition
	Head           = meta.Head
	UpdateBucket   = meta.UpdateBucket
	DeleteBucket   = meta.DeleteBucket
	OpenSession    = meta.OpenSession
	RenewSession   = meta.RenewSession
	EndSession     = meta.EndSession
	ExpireSessions = meta.ExpireSessions
	Put            = meta.Put
	Delete         = meta.Delete
	Copy           = meta.Copy
	SetTags        = meta.SetTags
	ExpireObjects  = meta.ExpireObjects
	ExpiredRow     = meta.ExpiredRow
	UploadRef      = meta.UploadRef
	CreateUpload   = meta.CreateUpload
	PutPart        = meta.PutPart
	CompleteUpload = meta.CompleteUpload
	PartRef        = meta.PartRef
	RestorePiece   = meta.Restore
	Result         = meta.Result
	Query          = meta.List
	Page           = meta.Page
)

// Encoded is commands as they are in an entry, which may have several.
type Encoded struct {
	body  []byte // JSON, without the brackets of the list
	count int
	alone bool // it must not share an entry
}

// EncodeCommands is the part of Encode that can be done beside others.
func EncodeCommands(cmds []Command) (Encoded, error) {
	if len(cmds) == 0 || len(cmds) > MaxEntryCommands {
		return Encoded{}, api.Errorf(api.CodeInvalid, "an entry has 1 to %d commands, not %d", MaxEntryCommands, len(cmds))
	}
	body, err := json.Marshal(cmds)
	if err != nil {
		return Encoded{}, fmt.Errorf("encode entry: %w", err)
	}
	e := Encoded{body[1 : len(body)-1], len(cmds), slices.ContainsFunc(cmds, func(c Command) bool { return c.Restore != nil })}
	if e.bytes() > MaxEntryBytes {
		return Encoded{}, api.Errorf(api.CodeTooLarge, "an entry of %d bytes, at most %d are allowed", e.bytes(), MaxEntryBytes).
			WithHint("send fewer commands at once, or upload the object in parts")
	}
	return e, nil
}

// entryFrame is what an entry has beside its commands: two bytes, and the brackets of the list.
const entryFrame = 4

func (e Encoded) bytes() int { return entryFrame + len(e.body) }

// Count is how many commands there are.
func (e Encoded) Count() int { return e.count }

// Fits tells whether one entry has room for both.
func (e Encoded) Fits(more Encoded) bool {
	return !e.alone && !more.alone && e.count+more.count <= MaxEntryCommands && e.bytes()+1+len(more.body) <= MaxEntryBytes
}

// With is both, in this order.
func (e Encoded) With(more Encoded) Encoded {
	if e.count == 0 {
		return more
	}
	body := append(append(e.body, ','), more.body...)
	return Encoded{body: body, count: e.count + more.count}
}

// Entry gives the bytes of an entry.
func (e Encoded) Entry() []byte {
	b := make([]byte, 0, e.bytes())
	b = append(b, EntryFormat, entryVersion, '[')
	return append(append(b, e.body...), ']')
}

// Encode gives the bytes of an entry. One that is too large is refused, so that it never reaches the log.
func Encode(cmds []Command) ([]byte, error) {
	e, err := EncodeCommands(cmds)
	if err != nil {
		return nil, err
	}
	return e.Entry(), nil
}

// Decode reads what Encode wrote. What this version does not know is an error, never skipped: the rows
// of the coordinators would part.
func Decode(b []byte) ([]Command, error) {
	if len(b) < 2 || b[0] != EntryFormat || b[1] != entryVersion {
		return nil, fmt.Errorf("decode entry: not one of version %d: upgrade this coordinator", entryVersion)
	}
	if len(b) > MaxEntryBytes {
		return nil, fmt.Errorf("decode entry: %d bytes, at most %d are allowed", len(b), MaxEntryBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(b[2:]))
	dec.DisallowUnknownFields()
	var cmds []Command
	if err := dec.Decode(&cmds); err != nil {
		return nil, fmt.Errorf("decode entry: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("decode entry: bytes after its end")
	}
	if len(cmds) == 0 || len(cmds) > MaxEntryCommands {
		return nil, fmt.Errorf("decode entry: %d commands", len(cmds))
	}
	return cmds, nil
}
