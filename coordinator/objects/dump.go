package objects

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"io"
)

// A dump is all of where a store stands, for another coordinator of the same log or for a later start: the
// length of a head in JSON, as a uvarint; the head; a backup; and one of the staged rows, if there are some.
type dumpHead struct {
	Restored restored `json:"restored,omitzero"`
	Staged   staged   `json:"staged,omitzero"`
}

const maxDumpHead = 64 << 10 // two ids, and a key in hexadecimal

// Dump writes where the store stood at the moment of the view.
func (v *View) Dump(out io.Writer) error {
	head, err := json.Marshal(dumpHead{v.standing.restored, v.standing.staged})
	if err != nil {
		return err
	}
	if _, err := out.Write(appendField(nil, head)); err != nil {
		return err
	}
	if err := v.Backup(out); err != nil || v.standing.staged.ID == "" {
		return err
	}
	return writeBackup(out, pebbleRows{v.snapshot, v.standing.staged.Generation}, v.Index())
}

// CatchUp makes the store stand where a dump says, unless it has come as far by itself: then the dump is
// only read to its end. On an error nothing has changed. It reads no further than the dump's end.
func (s *Store) CatchUp(in *bufio.Reader) error {
	var head dumpHead
	if err := readHead(in, &head); err != nil {
		return badBackup(err)
	}
	r := newBackupReader(in)
	index, err := r.head()
	if err != nil {
		return badBackup(err)
	}
	s.mu.RLock()
	now, failed := s.standing, s.failed
	s.mu.RUnlock()
	if failed != nil {
		return failed
	}
	if index <= now.applied {
		return skipDump(r, in, head.Staged.ID != "")
	}
	next := standing{generation: now.unused(), applied: index, restored: head.Restored, staged: head.Staged}
	if err := s.load(r, next.generation); err != nil {
		return err
	}
	if next.staged.ID != "" {
		next.staged.Generation = now.unused(next.generation)
		r := newBackupReader(in)
		if _, err := r.head(); err != nil {
			return badBackup(err)
		}
		if err := s.load(r, next.staged.Generation); err != nil {
			return err
		}
	}
	return s.change(next)
}

func readHead(in *bufio.Reader, head *dumpHead) error {
	size, err := binary.ReadUvarint(in)
	if err != nil {
		return err
	}
	if size > maxDumpHead {
		return io.ErrUnexpectedEOF
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(in, text); err != nil {
		return err
	}
	return json.Unmarshal(text, head)
}

func skipDump(r *backupReader, in *bufio.Reader, staged bool) error {
	for {
		key, _, err := r.row()
		if err != nil {
			return badBackup(err)
		}
		switch {
		case key != "":
		case !staged:
			return nil
		default:
			staged, r = false, newBackupReader(in)
			if _, err := r.head(); err != nil {
				return badBackup(err)
			}
		}
	}
}
