package api

import (
	"errors"
	"fmt"
	"net/http"
)

// Code is the stable, machine-readable class of an error. Clients branch on it, never on the text.
type Code string

// The codes, each with its one HTTP status and its one exit code (see HTTPStatus and ExitCode).
const (
	CodeInvalid      Code = "invalid"           // the request is malformed or breaks a rule
	CodeUnsupported  Code = "unsupported"       // valid in the contract, not built in this version
	CodeUnauthorized Code = "unauthorized"      // no credential, or one that is wrong, expired or revoked
	CodeForbidden    Code = "forbidden"         // a good credential that may not do this
	CodeNotFound     Code = "not_found"         // the named thing does not exist
	CodeConflict     Code = "conflict"          // it exists already, or it changed meanwhile
	CodeTooLarge     Code = "too_large"         // over a named limit
	CodeRateLimited  Code = "rate_limited"      // too many requests; retry later
	CodeTimeout      Code = "timeout"           // the wait ended before the condition held
	CodeUnavailable  Code = "unavailable"       // no leader, no quorum, or the node cannot be reached
	CodeNoRoom       Code = "no_room"           // no node can take the replica, or the disk is full
	CodeInternal     Code = "internal"          // a fault of ours; details are in the log
	CodeUnsupMedia   Code = "unsupported_media" // the uploaded artifact is not what was announced
)

// CodeNotLeader is how a coordinator refuses, to other members, what only the leader can do: nothing was
// done. People get CodeUnavailable.
const CodeNotLeader Code = "not_leader"

// AskAnother tells whether another coordinator may do what one has failed with err to do: that one cannot
// be reached, or does not lead. Every other error is an answer.
func AskAnother(err error) bool {
	switch CodeOf(err) {
	case CodeInternal, CodeUnavailable, CodeNotLeader:
		return true
	}
	return false
}

// Reason tells apart what has the same code, for protocols that must. Most errors have none.
type Reason string

// The reasons for which the object store refuses.
const (
	ReasonNoBucket       Reason = "no_bucket"
	ReasonNoObject       Reason = "no_object"
	ReasonNoUpload       Reason = "no_upload"
	ReasonBucketExists   Reason = "bucket_exists"
	ReasonBucketNotEmpty Reason = "bucket_not_empty"
	ReasonBucketName     Reason = "bucket_name"
	ReasonBucketLimit    Reason = "bucket_limit"
	ReasonPrecondition   Reason = "precondition" // If-Match or If-None-Match does not hold
	ReasonKeyTooLong     Reason = "key_too_long"
	ReasonMetadata       Reason = "metadata" // over its limits
	ReasonTags           Reason = "tags"
	ReasonChecksum       Reason = "checksum"
	ReasonQuota          Reason = "quota"
	ReasonPart           Reason = "part" // one that is not there, or another than was said
	ReasonPartOrder      Reason = "part_order"
	ReasonPartTooSmall   Reason = "part_too_small"
)

// Error is the one error type that crosses package and process borders. Op says what was being
// done, Message why it failed, Hint what to do next; Err is the cause and is never shown to users.
type Error struct {
	Code      Code   `json:"code"`
	Reason    Reason `json:"reason,omitempty"`
	Op        string `json:"-"`
	Message   string `json:"message"`
	Hint      string `json:"hint,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	Err       error  `json:"-"`
}

// ErrorBody is the JSON envelope of every error answer.
type ErrorBody struct {
	Error *Error `json:"error"`
}

// Error renders "op: message: hint" on one line.
func (e *Error) Error() string {
	s := e.Message
	if e.Op != "" {
		s = e.Op + ": " + s
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error with a formatted message; a %w operand becomes its cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// WithHint returns a copy that tells the reader what to do next.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// WithReason returns a copy that tells why in a word.
func (e *Error) WithReason(r Reason) *Error {
	c := *e
	c.Reason = r
	return &c
}

// ReasonOf is the reason of the first Error in err's chain, "" for none.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// WithOp returns a copy that names what was being done.
func (e *Error) WithOp(op string) *Error {
	c := *e
	c.Op = op
	return &c
}

// CodeOf is the code of the first Error in err's chain; CodeInternal for any other error, "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// AsError turns any error into an Error. What is not one already becomes CodeInternal with a
// neutral message, so that internals are logged, never shown.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeInternal, Message: "internal error", Hint: "see the coordinator's log for this request id", Err: err}
}

var codeTable = map[Code]struct{ http, exit int }{
	CodeInvalid:      {http.StatusBadRequest, 2},
	CodeUnsupported:  {http.StatusBadRequest, 2},
	CodeUnauthorized: {http.StatusUnauthorized, 4},
	CodeForbidden:    {http.StatusForbidden, 4},
	CodeNotFound:     {http.StatusNotFound, 3},
	CodeConflict:     {http.StatusConflict, 5},
	CodeTooLarge:     {http.StatusRequestEntityTooLarge, 1},
	CodeRateLimited:  {http.StatusTooManyRequests, 1},
	CodeTimeout:      {http.StatusGatewayTimeout, 6},
	CodeUnavailable:  {http.StatusServiceUnavailable, 7},
	CodeNoRoom:       {http.StatusInsufficientStorage, 1},
	CodeInternal:     {http.StatusInternalServerError, 1},
	CodeUnsupMedia:   {http.StatusUnsupportedMediaType, 1},
}

// HTTPStatus is the one mapping from code to HTTP status.
func (c Code) HTTPStatus() int {
	if t, ok := codeTable[c]; ok {
		return t.http
	}
	return http.StatusInternalServerError
}

// ExitCode is the one mapping from code to the exit code of the command line (CONTRACT §1).
func (c Code) ExitCode() int {
	if t, ok := codeTable[c]; ok {
		return t.exit
	}
	return 1
}
