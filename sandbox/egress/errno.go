package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/cloudless/cloudless/sandbox"
)

// Errno is the number that a guest is told, Error a call that failed.
type (
	Errno = sandbox.Errno
	Error = sandbox.Refusal
)

// The reasons. docs/GUEST-FETCH.md says when each is given.
const (
	ErrnoHandle      Errno = 9   // EBADF
	ErrnoAccess      Errno = 13  // EACCES
	ErrnoInvalid     Errno = 22  // EINVAL
	ErrnoTooMany     Errno = 24  // EMFILE
	ErrnoTooLarge    Errno = 27  // EFBIG
	ErrnoClosed      Errno = 32  // EPIPE
	ErrnoProtocol    Errno = 71  // EPROTO
	ErrnoReset       Errno = 104 // ECONNRESET
	ErrnoTimeout     Errno = 110 // ETIMEDOUT
	ErrnoUnreachable Errno = 113 // EHOSTUNREACH
	ErrnoEnded       Errno = 125 // ECANCELED
)

func refuse(errno Errno, format string, args ...any) *Error {
	return &Error{Errno: errno, Reason: fmt.Sprintf(format, args...)}
}

// explain makes an Error of what went wrong on the way; otherwise is the number of what is not known.
func explain(ctx context.Context, err error, otherwise Errno) *Error {
	var known *Error
	var dns *net.DNSError
	var op *net.OpError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &known):
		return known
	case ctx.Err() != nil:
		return refuse(ErrnoEnded, "the call that it belongs to has ended")
	case errors.As(err, &timeout) && timeout.Timeout():
		return refuse(ErrnoTimeout, "%v", err)
	case errors.As(err, &dns):
		return refuse(ErrnoUnreachable, "%v", err)
	case errors.As(err, &op) && op.Op == "dial":
		return refuse(ErrnoUnreachable, "%v", err)
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return refuse(ErrnoReset, "%v", err)
	}
	return refuse(otherwise, "%v", err)
}
