package egress

import (
	"testing"

	"github.com/cloudless/cloudless/sandbox/drivertest"
)

// What guests are told in docs/GUEST-FETCH.md are the numbers that they get.
func TestTheDocumentNamesEachErrno(t *testing.T) {
	drivertest.Errnos(t, "../../docs/GUEST-FETCH.md", map[Errno]string{
		ErrnoHandle: "EBADF", ErrnoAccess: "EACCES", ErrnoInvalid: "EINVAL", ErrnoTooMany: "EMFILE", ErrnoTooLarge: "EFBIG", ErrnoClosed: "EPIPE",
		ErrnoProtocol: "EPROTO", ErrnoReset: "ECONNRESET", ErrnoTimeout: "ETIMEDOUT", ErrnoUnreachable: "EHOSTUNREACH", ErrnoEnded: "ECANCELED",
	})
}
