package drivertest

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/cloudless/cloudless/sandbox"
)

var errnoRow = regexp.MustCompile(`(?m)^\| (\d+) \| (E[A-Z]+) \|`)

// Errnos holds a document for guests to the numbers that they get: its table names these and no others.
func Errnos(t *testing.T, document string, want map[sandbox.Errno]string) {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[sandbox.Errno]string{}
	for _, row := range errnoRow.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(row[1])
		if err != nil {
			t.Fatal(err)
		}
		documented[sandbox.Errno(n)] = row[2]
	}
	for errno, name := range want {
		if documented[errno] != name {
			t.Errorf("%d is %q in %s, want %s", errno, documented[errno], document, name)
		}
		delete(documented, errno)
	}
	if len(documented) > 0 {
		t.Errorf("%s has more: %v", document, documented)
	}
}
