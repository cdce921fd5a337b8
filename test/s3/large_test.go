package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/cloudless/cloudless/api"
)

const partBytes = 16 << 20

// largeObject is how many bytes it has; when the large counts are asked for, the most that S3 takes as one
// body.
func largeObject() int64 {
	if long() {
		return 5 << 30
	}
	return 64 << 20
}

// stream is a number of random bytes, and their digest when they have been read.
type stream struct {
	io.Reader
	sum hash.Hash
}

func newStream(seed byte, n int64) stream {
	sum := sha256.New()
	return stream{io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{seed}), n), sum), sum}
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// An object that is larger than the memory of many a node goes in and comes out identical, in parts by S3 and
// through the command line as one body from a pipe.
func TestALargeObject(t *testing.T) {
	k, n := newCluster(t), largeObject()
	_, err := k.client.CreateBucket(t.Context(), api.Bucket{Name: "large", Replicas: 1}) // three of each would fill many a disk
	must(t, err)
	c := k.sdk(0)
	for name, put := range map[string]func(io.Reader) error{
		"parts": func(r io.Reader) error { return putParts(t.Context(), c, "parts", r) },
		"command line": func(r io.Reader) error {
			return k.run(r, nil, "storage", "object", "put", "large", "command line", "-")
		},
	} {
		t.Run(name, func(t *testing.T) {
			sent := newStream(byte(len(name)), n)
			must(t, put(sent))
			o, err := k.client.Object(t.Context(), "large", name)
			must(t, err)
			byS3, byCLI := sha256.New(), sha256.New()
			must(t, read(t.Context(), c, "large", name, byS3))
			must(t, k.run(nil, byCLI, "storage", "object", "get", "large", name, "-"))
			if want := hexSum(sent.sum); o.Size != n || hexSum(byS3) != want || hexSum(byCLI) != want {
				t.Errorf("%d of %d bytes are there; sent %s, by S3 %s, by the command line %s", o.Size, n, want, hexSum(byS3), hexSum(byCLI))
			}
			most, err := k.agents[0].MostMemory()
			must(t, err)
			t.Logf("the agent held %.0f MB at most", most/1e6)
			must(t, k.client.DeleteObject(t.Context(), "large", name, ""))
		})
	}
}

// putParts uploads in parts, one after the other.
func putParts(ctx context.Context, c *s3.Client, key string, r io.Reader) error {
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String("large"), Key: &key})
	if err != nil {
		return err
	}
	var done types.CompletedMultipartUpload
	for part := make([]byte, partBytes); ; {
		n, err := io.ReadFull(r, part)
		if n == 0 {
			break
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		number := aws.Int32(int32(len(done.Parts) + 1))
		out, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: up.Bucket, Key: &key, UploadId: up.UploadId, PartNumber: number, Body: bytes.NewReader(part[:n])})
		if err != nil {
			return err
		}
		done.Parts = append(done.Parts, types.CompletedPart{ETag: out.ETag, PartNumber: number})
	}
	_, err = c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: up.Bucket, Key: &key, UploadId: up.UploadId, MultipartUpload: &done})
	return err
}

// run runs the command line as the administrator.
func (k *cluster) run(in io.Reader, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(k.t.Context(), binary, args...)
	cmd.Env = append(os.Environ(), "CLOUDLESS_CONFIG="+filepath.Join(k.dir, "config.yaml"), "CLOUDLESS_ADDRESS="+k.coord.Get("http"),
		"CLOUDLESS_CA_CERT="+filepath.Join(k.dir, "c", "ca.pem"), "CLOUDLESS_TOKEN=@"+filepath.Join(k.dir, "c", "admin.token"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, os.Stderr
	return cmd.Run()
}
