package api

import (
	"encoding/binary"
	"fmt"
	"io"
)

// MaxFrame is the longest message of an exec session, its first byte included.
const MaxFrame = 64 << 10

// WriteFrame writes one exec message to a byte stream: its length as 4 bytes, big endian, then the
// message. Between coordinator and node, exec sessions are such frames in both directions of one
// HTTP/2 request; towards people they are WebSocket messages.
func WriteFrame(w io.Writer, msg []byte) error {
	if len(msg) > MaxFrame {
		return fmt.Errorf("frame of %d bytes is over %d", len(msg), MaxFrame)
	}
	buf := make([]byte, 4+len(msg))
	binary.BigEndian.PutUint32(buf, uint32(len(msg)))
	copy(buf[4:], msg)
	_, err := w.Write(buf)
	return err
}

// ReadFrame reads what WriteFrame wrote; io.EOF at a clean end.
func ReadFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, fmt.Errorf("frame of %d bytes is over %d", n, MaxFrame)
	}
	msg := make([]byte, n)
	if _, err := io.ReadFull(r, msg); err != nil {
		return nil, fmt.Errorf("frame cut short: %w", err)
	}
	return msg, nil
}
