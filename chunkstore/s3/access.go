package s3

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/checksum"
)

// authenticate finds who signed the request and what their key may do. What of it is in the query of a
// presigned request and belongs into a header goes there: the signature covers both.
func (c *call) authenticate() error {
	sig, err := parseSignature(c.r, c.q)
	if err != nil {
		return err
	}
	if err := sig.current(time.Now()); err != nil {
		return err
	}
	if err := sig.covers(c.r.Header); err != nil {
		return err
	}
	key, err := c.signer(sig)
	if err != nil {
		return err
	}
	payload, err := payloadOf(c.r.Header, sig.presigned)
	if err != nil {
		return err
	}
	if err := sig.verify(c.r, c.q, payload, key.Key); err != nil {
		return err
	}
	c.sig, c.grant, c.payload = sig, key, payload
	if sig.presigned {
		c.hoist()
	}
	return nil
}

// signer asks for what checks the signature, and what its key is good for.
func (c *call) signer(sig *signature) (*api.SigningKey, error) {
	want := api.SigningKeyRequest{AccessKey: sig.accessKey, Date: sig.day, Region: sig.region}
	key, err := c.d.keys.get(c.ctx(), want, func(ctx context.Context) (*api.SigningKey, error) { return c.d.ask.Key(ctx, want) })
	switch {
	case api.CodeOf(err) == api.CodeUnauthorized:
		e := refuse("InvalidAccessKeyId", "%s", api.AsError(err).Message)
		e.AccessKey = sig.accessKey
		return nil, e
	case api.CodeOf(err) == api.CodeInvalid:
		return nil, refuse("AccessDenied", "%s", api.AsError(err).Message)
	case err != nil:
		return nil, err
	case key.Expires != nil && !time.Now().Before(*key.Expires):
		return nil, refuse("InvalidAccessKeyId", "the access key expired at %s", key.Expires.Format(time.RFC3339))
	}
	return key, nil
}

// stillGood asks again at the end of a request that took long: what a key put while it was revoked is not
// kept.
func (c *call) stillGood() error {
	if time.Since(c.began) < recentFor {
		return nil
	}
	_, err := c.signer(c.sig)
	return err
}

// What the header X-Amz-Content-Sha256 may say beside a digest.
const (
	unsignedPayload = "UNSIGNED-PAYLOAD"
	emptyPayload    = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	signedChunks    = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	signedTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	unsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	contentSHA256   = "X-Amz-Content-Sha256"
	streamingPrefix = "STREAMING-"
	hoistablePrefix = "x-amz-"
)

// payloadOf is what the header says of the body's digest.
func payloadOf(h http.Header, presigned bool) (string, error) {
	v := h.Get(contentSHA256)
	switch {
	case v == "" && presigned:
		return unsignedPayload, nil
	case v == "":
		return "", refuse("InvalidRequest", "missing required header for this request: x-amz-content-sha256")
	case v == unsignedPayload, v == signedChunks, v == signedTrailer, v == unsignedTrailer, isDigest(v):
		return v, nil
	case strings.HasPrefix(v, streamingPrefix):
		return "", refuse("NotImplemented", "x-amz-content-sha256 %.64q is not supported", v)
	}
	return "", refuse("InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, %s, %s, %s, or a valid sha256 value", signedChunks, signedTrailer, unsignedTrailer)
}

func isDigest(s string) bool {
	return len(s) == len(emptyPayload) && strings.Trim(s, "0123456789abcdef") == ""
}

// hoist makes headers of the parameters of a presigned query that are such.
func (c *call) hoist() {
	for _, p := range c.q {
		name := strings.ToLower(p.name)
		if strings.HasPrefix(name, hoistablePrefix) && !signing[name] && !ofNothing(name, p.value) && c.r.Header.Get(name) == "" {
			c.r.Header.Set(name, p.value)
		}
	}
}

// signing are the parameters of a presigned query that are about its signature, or about a body that was
// not there when it was signed.
var signing = map[string]bool{
	"x-amz-algorithm": true, "x-amz-credential": true, "x-amz-date": true, "x-amz-expires": true, "x-amz-signedheaders": true, "x-amz-signature": true,
	"x-amz-security-token": true, "x-amz-content-sha256": true, "x-amz-sdk-checksum-algorithm": true,
}

// ofNothing tells whether a parameter is the checksum of no bytes. Amazon's client for JavaScript puts that
// into every link for a put, for it has no body yet; it says nothing of the one that comes.
func ofNothing(name, value string) bool {
	algorithm, ok := strings.CutPrefix(name, strings.ToLower(checksumPrefix))
	if !ok {
		return false
	}
	h := checksum.New(strings.ToUpper(algorithm))
	return h != nil && checksum.Text(h) == value
}

// permit refuses what the key is not good for.
func (c *call) permit(write bool) error {
	if write && c.grant.ReadOnly {
		return refuse("AccessDenied", "the access key is for reading only")
	}
	if c.bucket != "" {
		return c.opens(c.bucket)
	}
	return nil
}

// opens refuses buckets that are not the key's.
func (c *call) opens(bucket string) error {
	if c.grant.Bucket != "" && c.grant.Bucket != bucket {
		return refuse("AccessDenied", "the access key is for another bucket")
	}
	return nil
}
