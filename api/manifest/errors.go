package manifest

import (
	"fmt"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// Error is one thing that is wrong with a file, and where.
type Error struct {
	File    string   `json:"file"`
	Line    int      `json:"line"` // from 1
	Col     int      `json:"col"`  // from 1
	Path    string   `json:"path,omitempty"`
	Message string   `json:"message"`
	Code    api.Code `json:"code"`
	Source  string   `json:"-"` // the line itself
}

// Error is "file:line:col: path: message".
func (e Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", e.File, e.Line, e.Col, e.Path, e.Message)
}

// Excerpt is the line with a mark under the column, "" when the place has no line.
func (e Error) Excerpt() string {
	if strings.TrimSpace(e.Source) == "" || len(e.Source) > 200 {
		return ""
	}
	return fmt.Sprintf("%5d | %s\n      | %*s", e.Line, strings.ReplaceAll(e.Source, "\t", " "), e.Col, "^")
}

// Errors is everything that is wrong with a file, in the order of its lines as far as possible.
type Errors []Error

// Error lists all of them, separated by "; ".
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "; ")
}

// Unwrap is the api.Error that stands for them all: CodeUnsupported when each names a part that is
// not built, CodeInvalid otherwise.
func (es Errors) Unwrap() error {
	code := api.CodeUnsupported
	for _, e := range es {
		if e.Code != api.CodeUnsupported {
			code = api.CodeInvalid
		}
	}
	return &api.Error{Code: code, Message: es.Error(), Hint: "see 'cloudless workload schema'"}
}
