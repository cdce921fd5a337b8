package web

import (
	"io"
	"net/http"
	"time"
)

// pieceBytes is how much a client must take within writeTimeout.
const pieceBytes = 64 << 10

// steadyReader reads a body of any length that must not stall.
type steadyReader struct {
	body io.Reader
	rc   *http.ResponseController
}

func (s steadyReader) Read(p []byte) (int, error) {
	_ = s.rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // not supported by a recorder in tests
	n, err := s.body.Read(p)
	if err != nil {
		_ = s.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// steadyWriter writes an answer of any length to a client that must not stall. Between writes there is no deadline:
// over HTTP/2 one that passes ends the answer, whether anything is to be written or not.
type steadyWriter struct {
	w  io.Writer
	rc *http.ResponseController
}

func (s steadyWriter) Write(p []byte) (n int, err error) {
	defer s.rc.SetWriteDeadline(time.Time{})
	for n < len(p) && err == nil {
		_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // not supported by a recorder in tests
		var k int
		k, err = s.w.Write(p[n:min(n+pieceBytes, len(p))])
		n += k
	}
	return n, err
}
