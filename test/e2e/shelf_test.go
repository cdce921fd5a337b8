package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/cloudless/cloudless/api"
)

const (
	shelfBucket = "shelf"
	copies      = 3       // that the bucket asks for
	partBytes   = 5 << 20 // the least that a part may have which is not the last
	callTimeout = 20 * time.Second
)

// shelf is a bucket as S3 clients of a cluster's agents use it, and what has been put there.
type shelf struct {
	k              *cluster
	access, secret string

	mu    sync.Mutex
	sizes map[string]int // by key; what an object's bytes are follows from its key
}

// newShelf makes the bucket, and a key for it. It returns when all agents take chunks.
func (k *cluster) newShelf() *shelf {
	k.t.Helper()
	k.cli.must("storage", "bucket", "create", shelfBucket)
	tok, err := k.api.CreateToken(context.Background(), api.TokenRequest{S3: true})
	if err != nil {
		k.t.Fatal(err)
	}
	k.takesChunks(len(k.agents))
	return &shelf{k: k, access: tok.ID, secret: tok.Secret, sizes: map[string]int{}}
}

// door is an S3 client of one agent. It does not retry: the tests do.
func (s *shelf) door(m *member) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String("http://" + m.addr + ":7790"), UsePathStyle: true, Region: "us-east-1", Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(s.access, s.secret, ""),
	})
}

// content is what the object of a key holds, at any size: nothing that compresses or is there twice.
func content(key string, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(key))).Read(data) // never fails
	return data
}

// put puts an object as one body.
func (s *shelf) put(m *member, key string, size int) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_, err := s.door(m).PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(shelfBucket), Key: &key, Body: bytes.NewReader(content(key, size))})
	return s.note(key, size, err)
}

// note keeps in mind what is there.
func (s *shelf) note(key string, size int, err error) error {
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sizes[key] = size
	}
	return err
}

// putParts puts an object in parts. What fails is left as it is, as a client does that goes away.
func (s *shelf) putParts(m *member, key string, size int) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	c, bucket := s.door(m), aws.String(shelfBucket)
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: &key})
	if err != nil {
		return err
	}
	var parts []types.CompletedPart
	for rest := content(key, size); len(rest) > 0; {
		n, number := min(len(rest), partBytes), aws.Int32(int32(len(parts)+1))
		part, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: &key, UploadId: up.UploadId, PartNumber: number, Body: bytes.NewReader(rest[:n])})
		if err != nil {
			return err
		}
		parts, rest = append(parts, types.CompletedPart{ETag: part.ETag, PartNumber: number}), rest[n:]
	}
	_, err = c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: &key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	return s.note(key, size, err)
}

// fill puts an object of every kind: empty, in its row, of one chunk, of several, in parts.
func (s *shelf) fill(m *member) {
	s.k.t.Helper()
	for key, size := range map[string]int{"empty": 0, "inline": 1000, "chunk": 200 << 10, "chunks": 3<<20 + 1} {
		s.must(s.put(m, key, size))
	}
	s.must(s.putParts(m, "parts", 2*partBytes+1))
}

func (s *shelf) must(err error) {
	s.k.t.Helper()
	if err != nil {
		s.k.t.Fatal(err)
	}
}

// get reads an object.
func (s *shelf) get(m *member, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	out, err := s.door(m).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(shelfBucket), Key: &key})
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	return io.ReadAll(out.Body)
}

// intact reads everything through some agents, and compares it.
func (s *shelf) intact(by ...*member) {
	s.k.t.Helper()
	for _, m := range by {
		for key, size := range s.sizes {
			if got, err := s.get(m, key); err != nil || !bytes.Equal(got, content(key, size)) {
				s.k.t.Errorf("%s by %s: %d bytes of %d come back, or others: %v", key, m.name, len(got), size, err)
			}
		}
	}
}

// s3Code is the code of S3 and the status of an error.
func s3Code(err error) string {
	var e smithy.APIError
	var r interface{ HTTPStatusCode() int }
	if !errors.As(err, &e) || !errors.As(err, &r) {
		return fmt.Sprint(err)
	}
	return fmt.Sprint(e.ErrorCode(), " ", r.HTTPStatusCode())
}

// report is how the store fares; false when nobody can tell.
func (k *cluster) report() (api.StorageReport, bool) {
	r, err := k.api.StorageReport(context.Background())
	return r, err == nil
}

// takesChunks waits until that many agents take chunks.
func (k *cluster) takesChunks(want int) {
	k.t.Helper()
	eventually(k.t, fmt.Sprintf("%d nodes take chunks", want), func() bool {
		r, _ := k.report()
		ready := 0
		for _, n := range r.Nodes {
			if n.State == api.StoreReady {
				ready++
			}
		}
		return ready == want
	})
}

// copied waits until the leader has looked at all chunks since it was asked and found that each has its
// copies, and the nodes say that they hold as many. They hold more for a while when objects were deleted or
// puts were broken off: test/bubble lets that time pass.
func (s *shelf) copied(want int64, on ...*member) {
	s.k.t.Helper()
	asked, ok := s.k.report()
	for !ok {
		asked, ok = s.k.report()
	}
	s.must(s.k.api.RepairStorage(context.Background()))
	eventually(s.k.t, fmt.Sprintf("%d copies of every chunk on %d nodes", want, len(on)), func() bool {
		r, ok := s.k.report()
		u, have := r.Upkeep, int64(0)
		for _, n := range r.Nodes {
			if m := find(on, n.Name); m != nil {
				have += n.Stats.Chunks
			}
		}
		return ok && u.LookedAt.After(asked.Upkeep.LookedAt) && !u.Looking && u.Chunks > 0 && have >= want*u.Chunks && u.Short+u.Missing+u.Lost == 0
	})
}

var missing = regexp.MustCompile(`(?m)^Missing: +(\d+) copies of \d+ chunks$`)

// shows waits until `storage status` tells that copies are missing, or that none is.
func (k *cluster) shows(some bool) {
	k.t.Helper()
	eventually(k.t, fmt.Sprintf("'storage status' shows missing copies: %v", some), func() bool {
		out, _, _ := k.cli.run("storage", "status")
		found := missing.FindStringSubmatch(out)
		if found == nil {
			return false
		}
		n, err := strconv.Atoi(found[1])
		return err == nil && n > 0 == some
	})
}

// told waits until an event of a type is there that was made since.
func (k *cluster) told(eventType string, resource string, since time.Time) {
	k.t.Helper()
	eventually(k.t, eventType+" is told", func() bool {
		list, err := k.api.Events(context.Background(), api.EventQuery{Type: eventType, Resource: resource, Since: since})
		return err == nil && len(list.Items) > 0
	})
}
