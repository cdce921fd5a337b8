package buckets

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/cloudless/cloudless/sandbox"
)

// What guests are told in docs/GUEST-STORAGE.md are the numbers that they get.
func TestTheDocumentNamesEachErrno(t *testing.T) {
	text, err := os.ReadFile("../../docs/GUEST-STORAGE.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[sandbox.Errno]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| (E[A-Z]+) \|`).FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(row[1])
		if err != nil {
			t.Fatal(err)
		}
		documented[sandbox.Errno(n)] = row[2]
	}
	for errno, name := range map[sandbox.Errno]string{
		ErrnoAbsent: "ENOENT", ErrnoFault: "EIO", ErrnoHandle: "EBADF", ErrnoAgain: "EAGAIN", ErrnoAccess: "EACCES", ErrnoExists: "EEXIST", ErrnoNoBucket: "ENODEV", ErrnoInvalid: "EINVAL",
		ErrnoTooMany: "EMFILE", ErrnoTooLarge: "EFBIG", ErrnoNoRoom: "ENOSPC", ErrnoRange: "ERANGE", ErrnoTimeout: "ETIMEDOUT", ErrnoStale: "ESTALE", ErrnoEnded: "ECANCELED",
	} {
		if documented[errno] != name {
			t.Errorf("%d is %q in the document, want %s", errno, documented[errno], name)
		}
		delete(documented, errno)
	}
	if len(documented) > 0 {
		t.Errorf("the document has more: %v", documented)
	}
}
