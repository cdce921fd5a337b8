package objects

import (
	"encoding/binary"
	"fmt"
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
	SealGroup      = meta.SealGroup
	Group          = meta.Group
	Shard          = meta.Shard
	RestorePiece   = meta.Restore
	Result         = meta.Result
	Query          = meta.List
	Page           = meta.Page
)

// Encoded is commands as they are in an entry, which may have several.
type Encoded struct {
	text  []byte // JSON, without the brackets of the list; see meta.SplitCommands
	blobs []byte
	count int
	alone bool // it must not share an entry
}

// EncodeCommands is the part of Encode that can be done beside others.
func EncodeCommands(cmds []Command) (Encoded, error) {
	if len(cmds) == 0 || len(cmds) > MaxEntryCommands {
		return Encoded{}, api.Errorf(api.CodeInvalid, "an entry has 1 to %d commands, not %d", MaxEntryCommands, len(cmds))
	}
	text, blobs, err := meta.SplitCommands(cmds)
	if err != nil {
		return Encoded{}, fmt.Errorf("encode entry: %w", err)
	}
	alone := slices.ContainsFunc(cmds, func(c Command) bool { return c.Restore != nil })
	e := Encoded{text[1 : len(text)-1], blobs, len(cmds), alone}
	if e.Bytes() > MaxEntryBytes {
		return Encoded{}, api.Errorf(api.CodeTooLarge, "an entry of %d bytes, at most %d are allowed", e.Bytes(), MaxEntryBytes).
			WithHint("send fewer commands at once, or upload the object in parts")
	}
	return e, nil
}

// Bytes is the length of the entry.
func (e Encoded) Bytes() int {
	text := len(e.text) + 2 // the brackets of the list
	return 2 + len(binary.AppendUvarint(nil, uint64(text))) + text + len(e.blobs)
}

// Count is how many commands there are.
func (e Encoded) Count() int { return e.count }

// Fits tells whether one entry has room for both.
func (e Encoded) Fits(more Encoded) bool {
	return !e.alone && !more.alone && e.count+more.count <= MaxEntryCommands && e.Bytes()+more.Bytes() <= MaxEntryBytes
}

// With is both, in this order.
func (e Encoded) With(more Encoded) Encoded {
	if e.count == 0 {
		return more
	}
	text := append(append(e.text, ','), more.text...)
	return Encoded{text: text, blobs: append(e.blobs, more.blobs...), count: e.count + more.count}
}

// Entry gives the bytes of an entry.
func (e Encoded) Entry() []byte {
	text := make([]byte, 0, len(e.text)+2)
	text = append(append(append(text, '['), e.text...), ']')
	return append([]byte{EntryFormat, entryVersion}, meta.Pack(text, e.blobs)...)
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
// of the coordinators would part. The commands have bytes of b.
func Decode(b []byte) ([]Command, error) {
	if len(b) < 2 || b[0] != EntryFormat || b[1] != entryVersion {
		return nil, fmt.Errorf("decode entry: not one of version %d: upgrade this coordinator", entryVersion)
	}
	if len(b) > MaxEntryBytes {
		return nil, fmt.Errorf("decode entry: %d bytes, at most %d are allowed", len(b), MaxEntryBytes)
	}
	text, blobs, err := meta.Unpack(b[2:])
	if err != nil {
		return nil, fmt.Errorf("decode entry: %w", err)
	}
	cmds, err := meta.JoinCommands(text, blobs)
	if err != nil {
		return nil, fmt.Errorf("decode entry: %w", err)
	}
	if len(cmds) == 0 || len(cmds) > MaxEntryCommands {
		return nil, fmt.Errorf("decode entry: %d commands", len(cmds))
	}
	return cmds, nil
}
