package buckets

import (
	"fmt"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// The reasons. docs/GUEST-STORAGE.md says when each is given.
const (
	ErrnoAbsent   sandbox.Errno = 2   // ENOENT
	ErrnoFault    sandbox.Errno = 5   // EIO
	ErrnoHandle   sandbox.Errno = 9   // EBADF
	ErrnoAgain    sandbox.Errno = 11  // EAGAIN
	ErrnoAccess   sandbox.Errno = 13  // EACCES
	ErrnoExists   sandbox.Errno = 17  // EEXIST
	ErrnoNoBucket sandbox.Errno = 19  // ENODEV
	ErrnoInvalid  sandbox.Errno = 22  // EINVAL
	ErrnoTooMany  sandbox.Errno = 24  // EMFILE
	ErrnoTooLarge sandbox.Errno = 27  // EFBIG
	ErrnoNoRoom   sandbox.Errno = 28  // ENOSPC
	ErrnoRange    sandbox.Errno = 34  // ERANGE
	ErrnoTimeout  sandbox.Errno = 110 // ETIMEDOUT
	ErrnoStale    sandbox.Errno = 116 // ESTALE
	ErrnoEnded    sandbox.Errno = 125 // ECANCELED
)

// errnos are the numbers of what the store answers.
var errnos = map[api.Code]sandbox.Errno{
	api.CodeNotFound:    ErrnoAbsent,
	api.CodeConflict:    ErrnoStale,
	api.CodeUnavailable: ErrnoAgain,
	api.CodeRateLimited: ErrnoAgain,
	api.CodeTimeout:     ErrnoTimeout,
	api.CodeForbidden:   ErrnoAccess,
	api.CodeInvalid:     ErrnoInvalid,
	api.CodeTooLarge:    ErrnoTooLarge,
	api.CodeNoRoom:      ErrnoNoRoom,
}

func refuse(errno sandbox.Errno, format string, args ...any) *sandbox.Refusal {
	return &sandbox.Refusal{Errno: errno, Reason: fmt.Sprintf(format, args...)}
}
