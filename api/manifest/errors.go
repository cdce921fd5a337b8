package manifest

import (
	"fmt"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// Error is one thing that is wrong with a file, and where.
type Error struct {
	File    string   `json:"file"`
	Line    int      `json:"line"` // from 1; 0 for one that is about no place in a file
	Col     int      `json:"col"`  // from 1
	Path    string   `json:"path,omitempty"`
	Message string   `json:"message"`
	Code    api.Code `json:"code"`
	Source  string   `json:"-"` // the line itself
}

// Error is "file:line:col: path: message".
func (e Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
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

// Errors is everything that is wrong with some files, in the order of the files and their lines.
type Errors []Error

// Error lists all of them, separated by "; ".
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "; ")
}

// Unwrap is the api.Error that stands for them all: of their code when they have one, else CodeInvalid.
func (es Errors) Unwrap() error {
	all := &api.Error{Code: es[0].Code, Message: es.Error()}
	for _, e := range es {
		if e.Code != all.Code {
			all.Code = api.CodeInvalid
		}
	}
	if all.Code == api.CodeInvalid || all.Code == api.CodeUnsupported {
		all.Hint = "see 'cloudless workload schema'"
	}
	return all
}
