package gateway

import (
	"errors"
	"io"

	"github.com/cloudless/cloudless/api"
)

// source reads an object to its end, and no further than it was announced to be long. Whoever must
// check the object as a whole gives a reader that fails at its end instead: nothing is put then.
type source struct {
	r     io.Reader
	size  int64 // -1: not known
	read  int64
	ended bool
}

// fill appends to b until it has n bytes or the object has ended.
func (s *source) fill(b []byte, n int) ([]byte, error) {
	for len(b) < n && !s.ended {
		got, err := s.r.Read(b[len(b):n])
		b = b[:len(b)+got]
		if err := s.note(got, err); err != nil {
			return b, err
		}
	}
	if s.read != s.size || s.ended {
		return b, nil
	}
	return b, s.probe()
}

// probe reads the end of an object that is as long as it was announced to be.
func (s *source) probe() error {
	var one [1]byte
	for !s.ended {
		got, err := s.r.Read(one[:])
		if err := s.note(got, err); err != nil {
			return err
		}
	}
	return nil
}

// note counts what was read, and tells what is wrong.
func (s *source) note(n int, err error) error {
	s.read += int64(n)
	s.ended = errors.Is(err, io.EOF)
	switch {
	case s.size >= 0 && s.read > s.size:
		return api.Errorf(api.CodeInvalid, "the object is longer than the %d bytes announced", s.size).WithHint("announce its size, or none")
	case s.ended && s.size > s.read:
		return api.Errorf(api.CodeInvalid, "the object ended after %d of %d bytes", s.read, s.size).WithHint("send it again")
	case err != nil && !s.ended:
		return readError(err)
	}
	return nil
}

// readError keeps what the reader of an object says if it knows what it speaks of.
func readError(err error) error {
	var known *api.Error
	if errors.As(err, &known) {
		return err
	}
	return api.Errorf(api.CodeInvalid, "the object could not be read to its end: %w", err).WithHint("send it again")
}
