package egress

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// What guests are told in docs/GUEST-FETCH.md are the numbers that they get.
func TestTheDocumentNamesEachErrno(t *testing.T) {
	text, err := os.ReadFile("../../docs/GUEST-FETCH.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[Errno]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| (E[A-Z]+) \|`).FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(row[1])
		if err != nil {
			t.Fatal(err)
		}
		documented[Errno(n)] = row[2]
	}
	for errno, name := range map[Errno]string{
		ErrnoHandle: "EBADF", ErrnoAccess: "EACCES", ErrnoInvalid: "EINVAL", ErrnoTooMany: "EMFILE", ErrnoTooLarge: "EFBIG", ErrnoClosed: "EPIPE",
		ErrnoProtocol: "EPROTO", ErrnoReset: "ECONNRESET", ErrnoTimeout: "ETIMEDOUT", ErrnoUnreachable: "EHOSTUNREACH", ErrnoEnded: "ECANCELED",
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
