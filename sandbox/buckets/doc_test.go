package buckets

import (
	"testing"

	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/drivertest"
)

// What guests are told in docs/GUEST-STORAGE.md are the numbers that they get.
func TestTheDocumentNamesEachErrno(t *testing.T) {
	drivertest.Errnos(t, "../../docs/GUEST-STORAGE.md", map[sandbox.Errno]string{
		ErrnoAbsent: "ENOENT", ErrnoFault: "EIO", ErrnoHandle: "EBADF", ErrnoAgain: "EAGAIN", ErrnoAccess: "EACCES", ErrnoExists: "EEXIST", ErrnoNoBucket: "ENODEV", ErrnoInvalid: "EINVAL",
		ErrnoTooMany: "EMFILE", ErrnoTooLarge: "EFBIG", ErrnoNoRoom: "ENOSPC", ErrnoRange: "ERANGE", ErrnoTimeout: "ETIMEDOUT", ErrnoStale: "ESTALE", ErrnoEnded: "ECANCELED",
	})
}
