package s3

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strconv"
	"strings"
)

// Bodies in chunks, as SDKs send them: each chunk has its length, and its signature if they are signed;
// after the last one there may be a trailer with the checksum of all.
const (
	maxChunkLine    = 256
	maxTrailerLine  = 1 << 10
	maxTrailerLines = 12 // empty ones, too
	chunkSignature  = ";chunk-signature="
	trailerSignedBy = "x-amz-trailer-signature"
)

// chain signs the chunks of one body, each with the signature before it.
type chain struct {
	sig  *signature
	key  []byte
	last string // hexadecimal
}

// check compares the next signature of the chain.
func (c *chain) check(kind, given string, lines ...string) error {
	text := c.sig.toSign(kind, append([]string{c.last}, lines...)...)
	sum, err := hex.DecodeString(given)
	if err != nil || !hmac.Equal(mac(c.key, text), sum) {
		return refuse("SignatureDoesNotMatch", "the signature of a chunk of the body does not match what we calculated")
	}
	c.last = strings.ToLower(given)
	return nil
}

// chunkedReader reads what is in the chunks. At the end it has the trailer.
type chunkedReader struct {
	r       *bufio.Reader
	chain   *chain // nil: not signed
	trailer bool   // one is to come
	left    int64  // of the chunk at hand
	sum     hash.Hash
	given   string // signature of the chunk at hand
	begun   bool
	fields  map[string]string // of the trailer, lower-case
	err     error
}

func newChunkedReader(r io.Reader, c *chain, trailer bool) *chunkedReader {
	return &chunkedReader{r: bufio.NewReaderSize(r, 64<<10), chain: c, trailer: trailer, sum: sha256.New(), fields: map[string]string{}}
}

// Read gives bytes before the signature of their chunk was checked: who reads must not keep them unless
// the end is io.EOF.
func (c *chunkedReader) Read(p []byte) (int, error) {
	if c.err != nil || len(p) == 0 {
		return 0, c.err
	}
	for c.left == 0 {
		if c.err = c.next(); c.err != nil {
			return 0, c.err
		}
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if c.chain != nil {
		c.sum.Write(p[:n])
	}
	if err != nil {
		c.err = cutShort(err)
	}
	return n, c.err
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return refuse("IncompleteBody", "the body ended before its last chunk")
	}
	return err
}

// next ends the chunk at hand and begins another; io.EOF is the end of the body.
func (c *chunkedReader) next() error {
	if c.begun {
		line, err := c.line(maxChunkLine)
		if err != nil {
			return cutShort(err)
		}
		if line != "" {
			return badChunk("a chunk is longer than it says")
		}
		if err := c.checkChunk(); err != nil {
			return err
		}
	}
	line, err := c.line(maxChunkLine)
	if err != nil {
		return cutShort(err)
	}
	size, given, signed := strings.Cut(line, chunkSignature)
	if size, _, _ = strings.Cut(size, ";"); signed != (c.chain != nil) {
		return badChunk("a chunk must have a signature if the body is signed, and only then")
	}
	n, err := strconv.ParseUint(size, 16, 63)
	if err != nil {
		return badChunk("the length of a chunk cannot be read")
	}
	c.begun, c.left, c.given = true, int64(n), given
	c.sum.Reset()
	if n > 0 {
		return nil
	}
	if err := c.checkChunk(); err != nil {
		return err
	}
	return c.end()
}

func (c *chunkedReader) checkChunk() error {
	if c.chain == nil {
		return nil
	}
	return c.chain.check("AWS4-HMAC-SHA256-PAYLOAD", c.given, emptyPayload, hex.EncodeToString(c.sum.Sum(nil)))
}

// end reads the trailer, which ends with the body. Clients differ in where they have empty lines: Amazon's at
// the end, MinIO's before the signature and two at the end, some none.
func (c *chunkedReader) end() error {
	var signed bytes.Buffer
	for lines := 0; ; lines++ {
		line, err := c.line(maxTrailerLine)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case lines == maxTrailerLines, line != "" && (!ok || !c.trailer):
			return refuse("MalformedTrailerError", "the trailer of the body is not well-formed")
		case line == "":
			continue
		case name != trailerSignedBy:
			signed.WriteString(name + ":" + value + "\n")
		}
		c.fields[name] = value
	}
	if c.trailer && c.chain != nil {
		if err := c.chain.check("AWS4-HMAC-SHA256-TRAILER", c.fields[trailerSignedBy], hashed(signed.String())); err != nil {
			return err
		}
	}
	return io.EOF
}

// line reads one line without its end. io.EOF tells that there is none.
func (c *chunkedReader) line(most int) (string, error) {
	var b []byte
	for {
		x, err := c.r.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && len(b) == 0:
			return "", io.EOF
		case err != nil:
			return "", cutShort(err)
		case x == '\n':
			return strings.TrimSuffix(string(b), "\r"), nil
		case len(b) == most:
			return "", badChunk("a line has more than %d bytes", most)
		}
		b = append(b, x)
	}
}

func badChunk(format string, args ...any) error {
	return refuse("InvalidRequest", "the chunked body is not well-formed: "+format, args...)
}
