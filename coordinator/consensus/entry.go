package consensus

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// entryFormat is the first byte of every stored entry.
const entryFormat = 1

var errEntry = errors.New("malformed log entry")

// encodeEntry writes everything of an entry but its index, which is its key.
func encodeEntry(l *raft.Log) []byte {
	b := make([]byte, 0, 2+3*binary.MaxVarintLen64+len(l.Extensions)+len(l.Data))
	b = append(b, entryFormat, byte(l.Type))
	b = binary.AppendUvarint(b, l.Term)
	var appended int64
	if !l.AppendedAt.IsZero() {
		appended = l.AppendedAt.UnixNano()
	}
	b = binary.AppendVarint(b, appended)
	b = binary.AppendUvarint(b, uint64(len(l.Extensions)))
	b = append(b, l.Extensions...)
	return append(b, l.Data...)
}

// decodeEntry fills l; it copies what it keeps of b.
func decodeEntry(index uint64, b []byte, l *raft.Log) error {
	if len(b) < 2 || b[0] != entryFormat || b[1] > byte(raft.LogConfiguration) {
		return errEntry
	}
	*l = raft.Log{Index: index, Type: raft.LogType(b[1])}
	b = b[2:]
	var n int
	if l.Term, n = binary.Uvarint(b); n <= 0 {
		return errEntry
	}
	b = b[n:]
	appended, n := binary.Varint(b)
	if n <= 0 {
		return errEntry
	}
	b = b[n:]
	if appended != 0 {
		l.AppendedAt = time.Unix(0, appended)
	}
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return errEntry
	}
	b = b[n:]
	l.Extensions = clone(b[:size])
	l.Data = clone(b[size:])
	return nil
}

func clone(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return append([]byte(nil), b...)
}
