package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// Format is how roles of this version keep their state. It grows when a version writes what the one
// before would misread.
const Format = 1

// CheckFormat refuses a folder that a later version has written to, and marks one that has no mark yet.
func CheckFormat(dir string) error {
	path := filepath.Join(dir, "format")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return WriteFile(path, fmt.Appendln(nil, Format))
	}
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || n < 1 {
		return Damaged(path, fmt.Errorf("%q is not the number of a format", data), fmt.Sprintf("write %d there if no later version was ever used", Format))
	}
	if n > Format {
		return api.Errorf(api.CodeConflict, "the data folder %s was written by a later version of cloudless: its format is %d, this version knows %d at most", dir, n, Format).
			WithHint("nothing was changed; use that version, or give this one a folder of its own with --data-dir")
	}
	return nil
}
