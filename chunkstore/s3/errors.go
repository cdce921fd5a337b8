package s3

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/cloudless/cloudless/api"
)

// Error is a refusal in the words of S3.
type Error struct {
	XMLName          xml.Name `xml:"Error"`
	Code             string
	Message          string
	Resource         string `xml:",omitempty"`
	BucketName       string `xml:",omitempty"`
	Key              string `xml:",omitempty"`
	RangeRequested   string `xml:",omitempty"`
	ActualObjectSize string `xml:",omitempty"`
	AccessKey        string `xml:"AWSAccessKeyId,omitempty"`
	StringToSign     string `xml:",omitempty"`
	CanonicalRequest string `xml:",omitempty"`
	RequestTime      string `xml:",omitempty"`
	ServerTime       string `xml:",omitempty"`
	MaxSkew          int64  `xml:"MaxAllowedSkewMilliseconds,omitempty"`
	RequestID        string `xml:"RequestId"`
	HostID           string `xml:"HostId"`
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// statuses are those of the codes; 400 is that of all others.
var statuses = map[string]int{
	"AccessDenied": 403, "InvalidAccessKeyId": 403, "SignatureDoesNotMatch": 403, "RequestTimeTooSkewed": 403,
	"NoSuchBucket": 404, "NoSuchKey": 404, "NoSuchUpload": 404, "NoSuchVersion": 404, "NoSuchBucketPolicy": 404, "NoSuchTagSet": 404,
	"NoSuchCORSConfiguration": 404, "NoSuchLifecycleConfiguration": 404, "NoSuchWebsiteConfiguration": 404, "NoSuchPublicAccessBlockConfiguration": 404, "NoSuchConfiguration": 404,
	"ObjectLockConfigurationNotFoundError": 404, "ReplicationConfigurationNotFoundError": 404, "ServerSideEncryptionConfigurationNotFoundError": 404,
	"MethodNotAllowed": 405, "BucketAlreadyOwnedByYou": 409, "BucketNotEmpty": 409, "OperationAborted": 409,
	"MissingContentLength": 411, "PreconditionFailed": 412, "InvalidRange": 416, "InvalidPartNumber": 416,
	"InternalError": 500, "NotImplemented": 501, "ServiceUnavailable": 503, "SlowDown": 503, "InsufficientStorage": 507, "AccessForbidden": 403,
}

func (e *Error) status() int {
	if s, ok := statuses[e.Code]; ok {
		return s
	}
	return http.StatusBadRequest
}

// byReason and byCode say what S3 calls a refusal of the store: the reason, where it has one, counts.
var (
	byReason = map[api.Reason]string{
		api.ReasonNoBucket: "NoSuchBucket", api.ReasonNoObject: "NoSuchKey", api.ReasonNoUpload: "NoSuchUpload",
		api.ReasonBucketExists: "BucketAlreadyOwnedByYou", api.ReasonBucketNotEmpty: "BucketNotEmpty", api.ReasonBucketName: "InvalidBucketName",
		api.ReasonBucketLimit: "TooManyBuckets", api.ReasonPrecondition: "PreconditionFailed", api.ReasonKeyTooLong: "KeyTooLongError",
		api.ReasonMetadata: "MetadataTooLarge", api.ReasonTags: "InvalidTag", api.ReasonChecksum: "InvalidRequest", api.ReasonQuota: "InsufficientStorage",
		api.ReasonPart: "InvalidPart", api.ReasonPartOrder: "InvalidPartOrder", api.ReasonPartTooSmall: "EntityTooSmall",
	}
	byCode = map[api.Code]string{
		api.CodeInvalid: "InvalidArgument", api.CodeUnsupported: "NotImplemented", api.CodeUnauthorized: "AccessDenied", api.CodeForbidden: "AccessDenied",
		api.CodeNotFound: "NoSuchKey", api.CodeConflict: "OperationAborted", api.CodeTooLarge: "EntityTooLarge", api.CodeRateLimited: "SlowDown",
		api.CodeTimeout: "ServiceUnavailable", api.CodeUnavailable: "ServiceUnavailable", api.CodeNoRoom: "InsufficientStorage",
	}
)

// inWords gives any error in the words of S3.
func inWords(err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var known *api.Error
	if !errors.As(err, &known) {
		return refuse("InternalError", "we encountered an internal error: please try again")
	}
	code := byCode[known.Code]
	if r, ok := byReason[known.Reason]; ok {
		code = r
	}
	if code == "" {
		return refuse("InternalError", "we encountered an internal error: please try again")
	}
	return refuse(code, "%s", known.Message)
}

// retryAfter is how many seconds a client is to wait when the store cannot be reached or is busy.
const retryAfter = 1

// fail answers with an error. When the answer has begun there is no other way to tell than to cut it.
func (c *call) fail(err error) {
	e := *inWords(err)
	status := e.status()
	if status >= http.StatusInternalServerError {
		c.d.log.Warn().Err(err).Str("request", c.id).Str("operation", c.operation).Msg("S3 request failed")
	}
	if c.status != 0 {
		panic(http.ErrAbortHandler)
	}
	h := c.w.Header()
	for _, name := range []string{"Content-Length", "ETag", "Last-Modified", "Content-Encoding", "Content-Disposition", "Cache-Control", "Accept-Ranges"} {
		h.Del(name)
	}
	if e.Code != "InvalidRange" {
		h.Del("Content-Range")
	}
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	if c.r.Method == http.MethodHead { // its answer has no body
		h.Set("Content-Type", "application/xml")
		_ = c.respond(status)
		return
	}
	e.Resource, e.RequestID, e.HostID = c.r.URL.Path, c.id, c.id
	switch e.Code {
	case "NoSuchBucket", "BucketNotEmpty", "BucketAlreadyOwnedByYou":
		e.BucketName = c.bucket
	case "NoSuchKey":
		e.Key = c.key
	}
	c.xml(status, e)
}
