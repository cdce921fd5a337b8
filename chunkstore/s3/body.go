package s3

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"hash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/checksum"
)

const (
	decodedLength  = "X-Amz-Decoded-Content-Length"
	checksumPrefix = "X-Amz-Checksum-"
	trailerHeader  = "X-Amz-Trailer"
)

// body is the bytes that a request brings. It ends with io.EOF only if they are as long as announced and
// have every digest that the request names; what was made of them is not to be kept otherwise.
type body struct {
	r       io.Reader
	size    int64 // -1: it was not announced
	read    int64
	checks  []check
	sum     *api.Checksum // its value is there at the end; nil if the request has none
	trailer *chunkedReader
	last    func() error // asked at the end; nil: nobody is
	err     error
}

// check is a digest that the bytes are to have.
type check struct {
	hash hash.Hash
	want func() string // at the end of the bytes; nil: any
	text func(sum []byte) string
	code string
	what string
}

// Read reads what the request's body stands for.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	b.read += int64(n)
	for _, c := range b.checks {
		c.hash.Write(p[:n])
	}
	switch {
	case b.size >= 0 && b.read > b.size:
		b.err = refuse("IncompleteBody", "the body is longer than the %d bytes announced", b.size)
		n = 0
	case errors.Is(err, io.EOF):
		b.err = b.finish()
	case err != nil:
		b.err = readError(err)
	}
	return n, b.err
}

func readError(err error) error {
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	return refuse("IncompleteBody", "the body could not be read to its end: %v", err)
}

// Checksum is the one that the bytes have had, once they have ended; nil if the request has none.
func (b *body) Checksum() *api.Checksum { return b.sum }

// finish tells whether the bytes are those that were announced: io.EOF.
func (b *body) finish() error {
	if b.size >= 0 && b.read != b.size {
		return refuse("IncompleteBody", "the body has %d of the %d bytes announced", b.read, b.size)
	}
	for _, c := range b.checks {
		got := c.text(c.hash.Sum(nil))
		if c.want != nil && c.want() != got {
			return refuse(c.code, "the %s you specified is %q, that of the body is %q", c.what, c.want(), got)
		}
		if b.sum != nil && c.what == b.sum.Algorithm {
			b.sum.Value = got
		}
	}
	if b.last != nil {
		if err := b.last(); err != nil {
			return err
		}
	}
	return io.EOF
}

// summed is n bytes of r, of which the checksum is taken that an upload was begun with.
func summed(r io.Reader, n int64, plan *api.Checksum) *body {
	b := &body{r: r, size: n}
	if plan != nil {
		b.sum = &api.Checksum{Algorithm: plan.Algorithm}
		b.checks = []check{{hash: checksum.New(plan.Algorithm), text: base64.StdEncoding.EncodeToString, what: plan.Algorithm}}
	}
	return b
}

// body gives the bytes of the request.
func (c *call) body() (*body, error) {
	size, err := c.bodySize()
	if err != nil {
		return nil, err
	}
	raw := &patientReader{r: c.r.Body, c: http.NewResponseController(c.w)}
	b := &body{r: raw, size: size, last: c.stillGood}
	switch c.payload {
	case signedChunks, signedTrailer:
		chain := &chain{c.sig, c.grant.Key, hex.EncodeToString(c.sig.sum)}
		b.trailer = newChunkedReader(b.r, chain, c.payload == signedTrailer)
	case unsignedTrailer:
		b.trailer = newChunkedReader(b.r, nil, true)
	case unsignedPayload:
	default:
		b.expect(sha256.New(), c.payload, hex.EncodeToString, "XAmzContentSHA256Mismatch", contentSHA256)
	}
	if b.trailer != nil {
		b.r = b.trailer
	}
	if err := c.digests(b); err != nil {
		return nil, err
	}
	c.goOn(raw)
	return b, nil
}

// goOn tells a client that waits for it to send the body ("100 Continue"): now, for the store may read only
// later, and a client that has waited for long goes on by itself. net/http does so at the first read, if
// there is a body; S3 does so for an empty one too, and the AWS CLI takes the next answer on the same
// connection for this one if it was not told.
func (c *call) goOn(raw io.Reader) {
	if c.r.ContentLength == 0 && strings.EqualFold(c.r.Header.Get("Expect"), "100-continue") {
		c.w.WriteHeader(http.StatusContinue)
		return
	}
	_, _ = raw.Read(nil) // what is wrong with the body the next read tells
}

func (b *body) expect(h hash.Hash, want string, text func([]byte) string, code, what string) {
	b.checks = append(b.checks, check{h, func() string { return want }, text, code, what})
}

// bodySize is how many bytes the body stands for.
func (c *call) bodySize() (int64, error) {
	size := c.r.ContentLength
	if strings.HasPrefix(c.payload, streamingPrefix) {
		n, err := strconv.ParseInt(c.r.Header.Get(decodedLength), 10, 64)
		if err != nil || n < 0 {
			return 0, refuse("MissingContentLength", "a body in chunks needs the header x-amz-decoded-content-length")
		}
		size = n
	}
	switch {
	case size < 0:
		return 0, refuse("MissingContentLength", "you must provide the Content-Length HTTP header")
	case size > MaxPutBytes:
		return 0, refuse("EntityTooLarge", "%d bytes; one put or part has at most %d: upload the object in parts", size, int64(MaxPutBytes))
	}
	return size, nil
}

// digests notes what else the bytes are to have: Content-MD5, and one checksum in a header or behind them.
func (c *call) digests(b *body) error {
	h := c.r.Header
	if text := h.Get("Content-Md5"); len(h.Values("Content-Md5")) > 0 {
		if sum, err := base64.StdEncoding.DecodeString(text); err != nil || len(sum) != md5.Size {
			return refuse("InvalidDigest", "the Content-MD5 you specified is not valid")
		}
		b.expect(md5.New(), text, base64.StdEncoding.EncodeToString, "BadDigest", "Content-MD5")
	}
	if err := knownChecksums(h); err != nil {
		return err
	}
	for _, name := range checksum.Names {
		value, trails := h.Get(checksumPrefix+name), strings.EqualFold(h.Get(trailerHeader), checksumPrefix+name)
		if value == "" && !trails {
			continue
		}
		if b.sum != nil || value != "" && trails {
			return refuse("InvalidRequest", "expecting a single x-amz-checksum- header: more than one is not allowed")
		}
		if err := c.expectChecksum(b, name, value); err != nil {
			return err
		}
	}
	if b.sum == nil && h.Get("X-Amz-Sdk-Checksum-Algorithm") != "" {
		return refuse("InvalidRequest", "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found")
	}
	if named := h.Get(trailerHeader); named != "" && (b.sum == nil || b.trailer == nil || !b.trailer.trailer) {
		return refuse("InvalidRequest", "the x-amz-trailer %.64q is not supported here", named)
	}
	return nil
}

// knownChecksums refuses a checksum that cannot be compared: who sends one relies on it.
func knownChecksums(h http.Header) error {
	for header := range h {
		name, ok := strings.CutPrefix(header, checksumPrefix)
		if name = strings.ToUpper(name); ok && !slices.Contains(checksum.Names, name) && !slices.Contains([]string{"ALGORITHM", "MODE", "TYPE"}, name) {
			return refuse("InvalidRequest", "the algorithm of %s is not one of %s", header, strings.Join(checksum.Names, ", "))
		}
	}
	return nil
}

// expectChecksum expects one that is given, or, with value "", that the trailer gives.
func (c *call) expectChecksum(b *body, name, value string) error {
	b.sum = &api.Checksum{Algorithm: name, Value: value}
	want := func() string { return value }
	if value == "" {
		want = func() string { return b.trailer.fields[strings.ToLower(checksumPrefix+name)] }
	} else if err := checksum.Check(b.sum); err != nil {
		return refuse("InvalidRequest", "value for x-amz-checksum-%s header is invalid", strings.ToLower(name))
	}
	b.checks = append(b.checks, check{checksum.New(name), want, base64.StdEncoding.EncodeToString, "BadDigest", name})
	return nil
}

// patientReader gives up a client that sends nothing for long.
type patientReader struct {
	r  io.Reader
	c  *http.ResponseController
	by time.Time // until when what is read may come, however it comes; zero: there is no such time
}

func (p *patientReader) Read(b []byte) (int, error) {
	by := p.by
	if by.IsZero() {
		by = time.Now().Add(idleTimeout)
	}
	_ = p.c.SetReadDeadline(by) // not every writer of a test can
	return p.r.Read(b)
}

// document reads an XML body into v.
func (c *call) document(v any) error {
	b, err := c.body()
	if err != nil {
		return err
	}
	if b.size > MaxDocumentBytes {
		return refuse("EntityTooLarge", "the document has %d bytes, at most %d are allowed", b.size, MaxDocumentBytes)
	}
	data, err := io.ReadAll(b)
	if err != nil {
		return err
	}
	if err := xml.Unmarshal(data, v); err != nil {
		return badXML()
	}
	return nil
}

func badXML() error {
	return refuse("MalformedXML", "the XML you provided was not well-formed or did not validate against our published schema")
}
