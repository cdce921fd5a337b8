package meta

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
)

// Bytes of objects are no JSON: a third longer, and slow to read. Packed, commands and answers are the
// length of a text, as a uvarint; the text, JSON without those bytes; and then the bytes of each place that
// may have some, in order, with their length before, as a uvarint.

var errPacked = errors.New("it is not what was packed")

// blobs are the places of a command that have bytes of objects.
func (c *Command) blobs() (out []*[]byte) {
	if c.Put != nil {
		out = append(out, &c.Put.Inline, &c.Put.Manifest)
	}
	if c.PutPart != nil {
		out = append(out, &c.PutPart.Manifest)
	}
	if c.Restore != nil {
		out = append(out, &c.Restore.Rows)
	}
	return out
}

// bare is a copy of a command whose places may be changed.
func (c Command) bare() Command {
	if c.Put != nil {
		put := *c.Put
		c.Put = &put
	}
	if c.PutPart != nil {
		part := *c.PutPart
		c.PutPart = &part
	}
	if c.Restore != nil {
		restore := *c.Restore
		c.Restore = &restore
	}
	return c
}

// SplitCommands gives commands as a list in JSON, and their bytes.
func SplitCommands(cmds []Command) (text, blobs []byte, err error) {
	bare := make([]Command, len(cmds))
	for i, c := range cmds {
		bare[i] = c.bare()
		blobs = takeBlobs(blobs, bare[i].blobs())
	}
	text, err = json.Marshal(bare)
	return text, blobs, err
}

// JoinCommands is the way back. The commands have the bytes of blobs, which must not change. What this
// version does not know is an error.
func JoinCommands(text, blobs []byte) ([]Command, error) {
	var cmds []Command
	if err := strict(text, &cmds); err != nil {
		return nil, err
	}
	var err error
	for i := range cmds {
		if blobs, err = giveBlobs(blobs, cmds[i].blobs()); err != nil {
			return nil, err
		}
	}
	if len(blobs) > 0 {
		return nil, errPacked
	}
	return cmds, nil
}

// takeBlobs moves the bytes of places behind b.
func takeBlobs(b []byte, places []*[]byte) []byte {
	for _, p := range places {
		b = append(binary.AppendUvarint(b, uint64(len(*p))), *p...)
		*p = nil
	}
	return b
}

// giveBlobs puts bytes back into places, and gives the rest.
func giveBlobs(b []byte, places []*[]byte) ([]byte, error) {
	for _, p := range places {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) || *p != nil {
			return nil, errPacked
		}
		if end := n + int(size); size > 0 {
			*p = b[n:end:end]
		}
		b = b[n+int(size):]
	}
	return b, nil
}

// strict reads all of a text, and refuses fields that it does not know.
func strict(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errPacked
	}
	return nil
}

// Pack puts a text and bytes together; Unpack takes them apart.
func Pack(text, blobs []byte) []byte {
	b := make([]byte, 0, binary.MaxVarintLen32+len(text)+len(blobs))
	return append(append(binary.AppendUvarint(b, uint64(len(text))), text...), blobs...)
}

// Unpack is the way back; both are parts of b.
func Unpack(b []byte) (text, blobs []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, errPacked
	}
	return b[n : n+int(size)], b[n+int(size):], nil
}

// MarshalBinary implements encoding.BinaryMarshaler.
func (c Commands) MarshalBinary() ([]byte, error) {
	text, blobs, err := SplitCommands(c.Commands)
	return Pack(text, blobs), err
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler; what it reads must not change.
func (c *Commands) UnmarshalBinary(b []byte) error {
	text, blobs, err := Unpack(b)
	if err != nil {
		return err
	}
	c.Commands, err = JoinCommands(text, blobs)
	return err
}

// blobs are the places of an answer that have bytes of objects.
func (a *Answer) blobs() []*[]byte {
	if a.Object == nil {
		return nil
	}
	return []*[]byte{&a.Object.Inline, &a.Object.Manifest}
}

// bare is a copy of an answer whose places may be changed.
func (a Answer) bare() *Answer {
	if a.Object != nil {
		o := *a.Object
		a.Object = &o
	}
	return &a
}

// MarshalBinary implements encoding.BinaryMarshaler.
func (a Answers) MarshalBinary() ([]byte, error) {
	bare, size := make([]*Answer, len(a.Answers)), 0
	for i, answer := range a.Answers {
		bare[i] = answer.bare()
		for _, p := range bare[i].blobs() {
			size += binary.MaxVarintLen32 + len(*p)
		}
	}
	blobs := make([]byte, 0, size)
	for _, answer := range bare {
		blobs = takeBlobs(blobs, answer.blobs())
	}
	text, err := json.Marshal(bare)
	return Pack(text, blobs), err
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler; what it reads must not change. Of what a newer
// coordinator says more it takes no notice.
func (a *Answers) UnmarshalBinary(b []byte) error {
	text, blobs, err := Unpack(b)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &a.Answers); err != nil {
		return err
	}
	for _, answer := range a.Answers {
		if answer == nil {
			return errPacked
		}
		if blobs, err = giveBlobs(blobs, answer.blobs()); err != nil {
			return err
		}
	}
	if len(blobs) > 0 {
		return errPacked
	}
	return nil
}
