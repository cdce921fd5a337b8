package web

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash"
	"io"
	"net/http"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// sum is a hash that a client promised of its body.
type sum struct {
	hash.Hash
	header string
	want   []byte
}

// promisedSums reads Content-MD5, Content-Digest (RFC 9530) and its forerunner Digest. Of the last two
// it knows sha-256 and passes over the rest, as it may.
func promisedSums(h http.Header) (sums []sum, err error) {
	if text := h.Get("Content-MD5"); text != "" {
		want, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(want) != md5.Size {
			return nil, api.Errorf(api.CodeInvalid, "Content-MD5: %q is not the base64 of an MD5", text)
		}
		sums = append(sums, sum{md5.New(), "Content-MD5", want})
	}
	for _, header := range []string{"Content-Digest", "Digest"} {
		for _, one := range strings.Split(h.Get(header), ",") {
			name, text, _ := strings.Cut(strings.TrimSpace(one), "=")
			if !strings.EqualFold(name, "sha-256") {
				continue
			}
			want, err := base64.StdEncoding.DecodeString(strings.Trim(text, ":"))
			if err != nil || len(want) != sha256.Size {
				return nil, api.Errorf(api.CodeInvalid, "%s: %q is not the base64 of a SHA-256", header, text)
			}
			sums = append(sums, sum{sha256.New(), header, want})
		}
	}
	return sums, nil
}

// checkedReader gives an error in the place of the end if the bytes were not those that were promised:
// its reader then takes none of them.
type checkedReader struct {
	r    io.Reader
	sums []sum
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for _, s := range c.sums {
		s.Write(p[:n])
		if errors.Is(err, io.EOF) && !bytes.Equal(s.Sum(nil), s.want) {
			return n, api.Errorf(api.CodeInvalid, "the body is not the one that %s names", s.header).WithReason(api.ReasonChecksum).WithHint("send it again")
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = api.Errorf(api.CodeInvalid, "the body ended before its announced length: %w", err).WithHint("send it again; nothing was stored")
	}
	return n, err
}
