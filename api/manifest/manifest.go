// Package manifest turns YAML and JSON into workloads, strictly: every unknown field, wrong type,
// duplicate key and broken rule is reported at once, each with its file, line and column. It also
// writes the JSON Schema of what it reads, and YAML that it reads back.
//
// It is the only package that knows the YAML library, so command line and role configuration files
// are read (Unmarshal) and printed (YAML) here too.
package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/cloudless/cloudless/api"
)

// Document is one workload of a file, and the line that it begins at.
type Document struct {
	Workload api.Workload
	Line     int

	place func(api.FieldError) Error
}

// Problem is an error about a field that only the caller could find, such as a file that is not there.
func (d Document) Problem(path string, err error) Error {
	e := api.AsError(err)
	return d.place(api.FieldError{Path: path, Message: e.Message, Code: e.Code})
}

// Option changes what Parse accepts.
type Option func(*options)

type options struct {
	allowPaths bool
	namespace  string
}

// AllowPaths accepts file paths as spec.wasm.module, spec.wasm.signature and spec.container.image, for
// a caller that uploads the files and puts their digests, and the signature's text, in place before
// the API sees the workload.
func AllowPaths() Option { return func(o *options) { o.allowPaths = true } }

// Namespace is given to the documents that name none.
func Namespace(ns string) Option { return func(o *options) { o.namespace = ns } }

// IsImagePath tells whether an image is written as a path to a tarball rather than as a reference.
func IsImagePath(image string) bool {
	return strings.HasPrefix(image, "/") || strings.HasPrefix(image, "./") ||
		strings.HasPrefix(image, "../") || strings.HasSuffix(image, ".tar")
}

// Parse reads all workloads of a file, with defaults filled in. The error, if any, is Errors.
func Parse(name string, data []byte, opts ...Option) ([]Document, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	src := newSource(name, data)
	roots, errs := src.load()
	var docs []Document
	first := map[api.Ref]int{}
	for _, root := range roots {
		doc, more := src.workload(root, o)
		if len(more) == 0 {
			if line, twice := first[doc.Workload.Ref()]; twice {
				more = append(more, src.problem(root, "metadata.name", "%s is in this file twice, first in the document at line %d", doc.Workload.Ref(), line))
			}
			first[doc.Workload.Ref()] = doc.Line
		}
		errs = append(errs, more...)
		docs = append(docs, doc)
	}
	slices.SortStableFunc(errs, func(a, b Error) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col)) })
	if len(errs) == 0 && len(docs) == 0 {
		errs = append(errs, src.at(1, 1, "", "holds no workload"))
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return docs, nil
}

// Unmarshal reads the one document of a file into a struct with json tags, as strictly as Parse. An
// empty file leaves the struct as it is.
func Unmarshal(name string, data []byte, into any) error {
	src := newSource(name, data)
	roots, errs := src.load()
	if len(roots) > 1 {
		errs = append(errs, src.problem(roots[1], "", "has %d documents, one is wanted", len(roots)))
	}
	if len(errs) == 0 && len(roots) == 1 {
		d := newDecoder(src)
		d.value(roots[0], reflect.ValueOf(into).Elem(), "", 0)
		errs = d.errs
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// workload decodes, defaults and validates one document.
func (s *source) workload(root *yaml.Node, o options) (Document, Errors) {
	d := newDecoder(s)
	doc := Document{Line: root.Line, place: func(e api.FieldError) Error { return s.broken(d, root, e) }}
	w := &doc.Workload
	d.value(root, reflect.ValueOf(w).Elem(), "", 0)
	w.Status = nil
	if w.Metadata.Namespace == "" {
		w.Metadata.Namespace = o.namespace
	}
	w.Default()
	for _, e := range w.Validate() {
		// A field that did not decode is reported once, not again as empty.
		if !d.failed(e.Path) && !(o.allowPaths && isPathError(w, e.Path)) {
			d.errs = append(d.errs, s.broken(d, root, e))
		}
	}
	return doc, d.errs
}

// IsSignaturePath tells whether a signature is written as a path to its file rather than as its text,
// which has several lines.
func IsSignaturePath(signature string) bool {
	return signature != "" && !strings.Contains(signature, "\n")
}

// isPathError tells whether a broken rule is only that a path is not a digest or a signature yet.
func isPathError(w *api.Workload, path string) bool {
	switch path {
	case "spec.wasm.module":
		return w.Spec.Wasm.Module != ""
	case "spec.wasm.signature":
		return IsSignaturePath(w.Spec.Wasm.Signature)
	case "spec.container.image":
		return IsImagePath(w.Spec.Container.Image)
	}
	return false
}

// source is a file under parse.
type source struct {
	name  string
	data  []byte
	lines []string
}

func newSource(name string, data []byte) *source {
	if json.Valid(data) {
		// JSON may be indented with tabs, YAML may not; inside JSON strings there is no raw tab.
		data = bytes.ReplaceAll(data, []byte("\t"), []byte(" "))
	}
	return &source{name: name, data: data}
}

// load gives the root node of each document that is not empty.
func (s *source) load() (roots []*yaml.Node, errs Errors) {
	if len(s.data) > api.MaxManifestBytes {
		e := s.at(1, 1, "", "is %d bytes, at most %d are allowed", len(s.data), api.MaxManifestBytes)
		return nil, append(errs, e)
	}
	loader, err := yaml.NewLoader(bytes.NewReader(s.data))
	if err != nil {
		return nil, append(errs, s.syntax(err))
	}
	for {
		var n yaml.Node
		if err := loader.Load(&n); errors.Is(err, io.EOF) {
			return roots, errs
		} else if err != nil {
			return roots, append(errs, s.syntax(err))
		}
		if len(n.Content) == 0 || isNull(n.Content[0]) {
			continue
		}
		if len(roots) == api.MaxManifestDocuments {
			return roots, append(errs, s.problem(n.Content[0], "", "is document %d, at most %d are allowed in one file", len(roots)+1, api.MaxManifestDocuments))
		}
		roots = append(roots, n.Content[0])
	}
}

// syntax reports what the YAML library refused, where it did.
func (s *source) syntax(err error) Error {
	var le *yaml.LoadError
	if errors.As(err, &le) {
		text := le.Message
		if le.ContextMsg != "" {
			text += " (" + le.ContextMsg + ")"
		}
		return s.at(max(le.Mark.Line, 1), max(le.Mark.Column, 1), "", "not valid YAML: %s", text)
	}
	return s.at(1, 1, "", "not valid YAML: %v", err)
}

// at makes an error for a place; problem does for a node.
func (s *source) at(line, col int, path, format string, args ...any) Error {
	return Error{File: s.name, Line: line, Col: col, Path: path, Message: fmt.Sprintf(format, args...), Code: api.CodeInvalid, Source: s.line(line)}
}

func (s *source) problem(n *yaml.Node, path, format string, args ...any) Error {
	return s.at(n.Line, n.Column, path, format, args...)
}

// broken places a broken rule at the field that broke it, or at the nearest parent that is written.
func (s *source) broken(d *decoder, root *yaml.Node, e api.FieldError) Error {
	out := s.problem(d.nearest(e.Path, root), e.Path, "%s", e.Message)
	out.Code = e.Code
	return out
}

func (s *source) line(n int) string {
	if s.lines == nil {
		s.lines = strings.Split(string(s.data), "\n")
	}
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return strings.TrimRight(s.lines[n-1], "\r")
}
