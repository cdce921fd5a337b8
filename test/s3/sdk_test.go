package s3

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/cloudless/cloudless/api"
)

// pair writes a certificate with its key, and gives the flag's value and who trusts it.
func pair(t *testing.T) (files string, trust *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(nil) // it has one for 127.0.0.1
	defer server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	must(t, err)
	cert, secret := filepath.Join(t.TempDir(), "s3.pem"), filepath.Join(t.TempDir(), "s3.key")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	must(t, os.WriteFile(secret, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	trust = x509.NewCertPool()
	trust.AddCert(server.Certificate())
	return cert + "," + secret, trust
}

// trailers counts the requests with a checksum behind the body.
type trailers struct {
	http.RoundTripper
	seen atomic.Int64
}

func (c *trailers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("X-Amz-Trailer") == "x-amz-checksum-crc32" && r.Header.Get("X-Amz-Content-Sha256") == "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
		c.seen.Add(1)
	}
	return c.RoundTripper.RoundTrip(r)
}

// Amazon's client for Go, as it is without any option, sends a checksum behind each body over HTTPS and
// compares the one of each answer.
func TestAmazonsClientWithTrailers(t *testing.T) {
	files, trust := pair(t)
	k := newCluster(t, "--s3-tls", files)
	sent := &trailers{RoundTripper: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}}}
	c := k.sdk(0, func(o *s3.Options) {
		o.HTTPClient = &http.Client{Transport: sent}
		// What Amazon's configuration says when it says nothing.
		o.RequestChecksumCalculation, o.ResponseChecksumValidation = aws.RequestChecksumCalculationWhenSupported, aws.ResponseChecksumValidationWhenSupported
	})
	_, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("assets")})
	must(t, err)
	sizes := []int64{0, 1, api.MaxInlineBytes, api.MaxInlineBytes + 1, 9<<20 + 3}
	putAll := func(name string) error {
		for i, n := range sizes {
			body := newStream(byte(i), n)
			key := fmt.Sprint(name, "/", n)
			out, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("assets"), Key: &key, Body: body, ContentLength: &n})
			if err != nil {
				return fmt.Errorf("put %s: %w", key, err)
			}
			if out.ChecksumCRC32 == nil {
				t.Errorf("%s was kept without its checksum", key)
			}
			if err := compare(t.Context(), c, key, byte(i), n); err != nil {
				return err
			}
		}
		return putTwoParts(t.Context(), c, name+"/parts")
	}
	must(t, putAll("quiet"))
	if got, want := sent.seen.Load(), int64(len(sizes)+2-1); got < want { // of no bytes there may be none
		t.Errorf("%d bodies had a trailer, want %d", got, want)
	}
	k.whileKilled(func() error { return putAll("killed") })
	list, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("assets")})
	must(t, err)
	var all []types.ObjectIdentifier
	for _, o := range list.Contents {
		all = append(all, types.ObjectIdentifier{Key: o.Key})
	}
	gone, err := c.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: aws.String("assets"), Delete: &types.Delete{Objects: all}})
	must(t, err)
	if want := 2 * (len(sizes) + 1); len(gone.Deleted) != want {
		t.Errorf("%d deleted, want %d: %+v", len(gone.Deleted), want, gone.Errors)
	}
}

// compare reads an object, whose checksum the client compares, too.
func compare(ctx context.Context, c *s3.Client, key string, seed byte, n int64) error {
	want, err := io.ReadAll(newStream(seed, n))
	if err != nil {
		return err
	}
	var got bytes.Buffer
	if err := read(ctx, c, "assets", key, &got); err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		return fmt.Errorf("%s came back as %d others", key, got.Len())
	}
	return nil
}

// putTwoParts puts an object in parts, and reads each of them again.
func putTwoParts(ctx context.Context, c *s3.Client, key string) error {
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String("assets"), Key: &key})
	if err != nil {
		return err
	}
	var parts []types.CompletedPart
	for i, n := range []int64{api.MinPartBytes, 1000} {
		number := int32(i + 1)
		out, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: aws.String("assets"), Key: &key, UploadId: up.UploadId, PartNumber: &number, Body: newStream(byte(i), n), ContentLength: &n})
		if err != nil {
			return fmt.Errorf("part %d: %w", number, err)
		}
		parts = append(parts, types.CompletedPart{PartNumber: &number, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32})
	}
	if _, err = c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: aws.String("assets"), Key: &key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}); err != nil {
		return err
	}
	head, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("assets"), Key: &key, PartNumber: aws.Int32(2), ChecksumMode: types.ChecksumModeEnabled})
	if err == nil && (*head.ContentLength != 1000 || *head.PartsCount != 2) {
		err = fmt.Errorf("the second part has %d bytes of %d parts", *head.ContentLength, *head.PartsCount)
	}
	return err
}
