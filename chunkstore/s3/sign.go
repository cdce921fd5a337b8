package s3

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
)

// Signature Version 4, as a header or, presigned, in the query.
const (
	algorithm    = "AWS4-HMAC-SHA256"
	dayFormat    = "20060102"
	timeFormat   = "20060102T150405Z"
	maxSkew      = 15 * time.Minute
	maxPresigned = 7 * 24 * time.Hour
	// Names of the query of a presigned request.
	queryAlgorithm  = "X-Amz-Algorithm"
	queryCredential = "X-Amz-Credential"
	queryDate       = "X-Amz-Date"
	queryExpires    = "X-Amz-Expires"
	querySigned     = "X-Amz-SignedHeaders"
	querySignature  = "X-Amz-Signature"
)

// signature is what a request says of how it was signed.
type signature struct {
	accessKey, day, region string
	signed                 []string // names of headers, lower-case, sorted
	sum                    []byte
	stamp                  string // the time as it was signed
	at                     time.Time
	presigned              bool
	expires                time.Duration // of a presigned one
}

func (s *signature) scope() string { return s.day + "/" + s.region + "/s3/aws4_request" }

// parseSignature reads the signature of a request.
func parseSignature(r *http.Request, q params) (*signature, error) {
	auth := r.Header.Get("Authorization")
	switch {
	case q.has(queryAlgorithm) && auth != "":
		return nil, refuse("InvalidArgument", "a request is signed by its header or its query, not by both")
	case q.has(queryAlgorithm):
		return parsePresigned(q)
	case auth == "" && q.has("AWSAccessKeyId"):
		auth = "AWS" // a link of Signature Version 2
	case auth == "":
		return nil, refuse("AccessDenied", "the request is not signed")
	}
	name, rest, _ := strings.Cut(auth, " ")
	if name != algorithm {
		return nil, refuse("InvalidRequest", "the authorization mechanism %.32q is not supported: use %s", name, algorithm)
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[key] = value
	}
	s := &signature{}
	if err := s.fill(fields["Credential"], fields["SignedHeaders"], fields["Signature"]); err != nil {
		return nil, err
	}
	return s, s.dated(r.Header)
}

func parsePresigned(q params) (*signature, error) {
	s := &signature{presigned: true, stamp: q.get(queryDate)}
	if name := q.get(queryAlgorithm); name != algorithm {
		return nil, s.malformed("%s is %.32q, not %s", queryAlgorithm, name, algorithm)
	}
	if err := s.fill(q.get(queryCredential), q.get(querySigned), q.get(querySignature)); err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(q.get(queryExpires))
	if s.expires = time.Duration(n) * time.Second; err != nil || n < 1 || s.expires > maxPresigned {
		return nil, s.malformed("%s must be 1 to %d seconds", queryExpires, int(maxPresigned/time.Second))
	}
	if s.at, err = time.Parse(timeFormat, s.stamp); err != nil {
		return nil, s.malformed("%s must be of the form %s", queryDate, timeFormat)
	}
	return s, nil
}

// malformed refuses what is wrong with the form of a signature.
func (s *signature) malformed(format string, args ...any) error {
	if s.presigned {
		return refuse("AuthorizationQueryParametersError", format, args...)
	}
	return refuse("AuthorizationHeaderMalformed", format, args...)
}

func (s *signature) fill(credential, signed, sum string) error {
	parts := strings.Split(credential, "/")
	if n := len(parts); n < 5 || parts[n-1] != "aws4_request" || parts[n-2] != "s3" || len(parts[n-3]) > api.MaxRegionLen {
		return s.malformed("the credential must be ACCESSKEY/YYYYMMDD/REGION/s3/aws4_request")
	}
	n := len(parts)
	s.accessKey, s.day, s.region = strings.Join(parts[:n-4], "/"), parts[n-4], parts[n-3]
	if s.signed = strings.Split(signed, ";"); !slices.Contains(s.signed, "host") || !slices.IsSorted(s.signed) {
		return s.malformed("the signed headers must be sorted, with host among them")
	}
	var err error
	if s.sum, err = hex.DecodeString(sum); err != nil || len(s.sum) != sha256.Size {
		return s.malformed("the signature must be %d hexadecimal digits", 2*sha256.Size)
	}
	return nil
}

// dated reads the time of a request that is signed by its header.
func (s *signature) dated(h http.Header) (err error) {
	if s.stamp = h.Get("X-Amz-Date"); s.stamp != "" {
		s.at, err = time.Parse(timeFormat, s.stamp)
	} else if s.at, err = http.ParseTime(h.Get("Date")); err == nil {
		s.at = s.at.UTC()
		s.stamp = s.at.Format(timeFormat)
	}
	if err != nil {
		return refuse("AccessDenied", "a signed request needs a valid X-Amz-Date or Date header")
	}
	return nil
}

// current refuses a signature of another time, or whose scope is of another day.
func (s *signature) current(now time.Time) error {
	off := now.Sub(s.at)
	switch {
	case s.day != s.at.Format(dayFormat):
		return s.malformed("the credential is of day %.8s, the request of %s", s.day, s.at.Format(dayFormat))
	case off < -maxSkew, off > maxSkew && !s.presigned:
		e := refuse("RequestTimeTooSkewed", "the difference between the request time and the current time is too large")
		e.RequestTime, e.ServerTime, e.MaxSkew = s.stamp, now.UTC().Format(time.RFC3339), int64(maxSkew/time.Millisecond)
		return e
	case s.presigned && off > s.expires:
		return refuse("AccessDenied", "the request has expired")
	}
	return nil
}

// covers refuses a request with headers of Amazon's that could have been added by anybody.
func (s *signature) covers(h http.Header) error {
	for name := range h {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-") && !slices.Contains(s.signed, lower) && !(s.presigned && lower == "x-amz-content-sha256") {
			return refuse("AccessDenied", "there were headers present in the request which were not signed: %s", lower)
		}
	}
	return nil
}

// verify compares the signature with what key makes of the request.
func (s *signature) verify(r *http.Request, q params, payload string, key []byte) error {
	canonical := s.canonical(r, q, payload)
	text := s.toSign(algorithm, hashed(canonical))
	if !hmac.Equal(mac(key, text), s.sum) {
		e := refuse("SignatureDoesNotMatch", "the request signature we calculated does not match the signature you provided: check the secret key and the signing method")
		e.AccessKey, e.StringToSign, e.CanonicalRequest = s.accessKey, text, canonical
		return e
	}
	return nil
}

// toSign is the text that is signed for a request or a piece of one.
func (s *signature) toSign(kind string, lines ...string) string {
	return strings.Join(append([]string{kind, s.stamp, s.scope()}, lines...), "\n")
}

// canonical is the request in the one form that both sides sign.
func (s *signature) canonical(r *http.Request, q params, payload string) string {
	var b strings.Builder
	for _, line := range []string{r.Method, escape(r.URL.Path, true), q.canonical()} {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	for _, name := range s.signed {
		b.WriteString(name + ":" + headerOf(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(s.signed, ";") + "\n" + payload)
	return b.String()
}

// headerOf is a header as it is signed. Some of them net/http keeps elsewhere.
func headerOf(r *http.Request, name string) string {
	values := r.Header.Values(name)
	switch {
	case name == "host":
		values = []string{r.Host}
	case name == "content-length" && len(values) == 0 && r.ContentLength >= 0:
		values = []string{strconv.FormatInt(r.ContentLength, 10)}
	case name == "transfer-encoding" && len(values) == 0:
		values = r.TransferEncoding
	}
	plain := make([]string, len(values))
	for i, v := range values {
		plain[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(plain, ",")
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
