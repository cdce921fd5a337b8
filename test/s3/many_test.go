package s3

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/test/manyobjects"
)

// long tells whether the large counts are asked for.
func long() bool { return os.Getenv("CLOUDLESS_TEST_LONG") != "" }

func manyKeys() int {
	if long() {
		return 1_000_000
	}
	return 20_000
}

// maxCoordinator is the most memory that a coordinator may ever have held, whatever it has to keep.
const maxCoordinator = 256 << 20

// sdk is Amazon's own client of an agent's door.
func (k *cluster) sdk(agent int, change ...func(*s3.Options)) *s3.Client {
	k.t.Helper()
	access, secret := k.key(api.TokenRequest{})
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(k.agents[agent].Get("s3")), UsePathStyle: true, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(access, secret, ""),
	}, change...)
}

// read reads an object to its end.
func read(ctx context.Context, c *s3.Client, bucket, key string, to io.Writer) error {
	out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	_, err = io.Copy(to, out.Body)
	return err
}

// A bucket of a great many keys is restored, listed whole and by folders, read and written as a small one,
// and its coordinator needs no more memory for it.
func TestManyKeys(t *testing.T) {
	k, n := newCluster(t), manyKeys()
	k.restoreMany(n)
	c, bucket := k.sdk(0), aws.String(manyobjects.Bucket)

	seen := 0
	for pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: bucket}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		must(t, err)
		for _, o := range page.Contents {
			if *o.Key != manyobjects.Key(seen) {
				t.Fatalf("key %d of the list is %s", seen, *o.Key)
			}
			seen++
		}
	}
	folders := 0
	for pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: bucket, Delimiter: aws.String("/")}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		must(t, err)
		folders += len(page.CommonPrefixes)
	}
	if seen != n || folders != n/100 {
		t.Errorf("%d keys of %d are listed, in %d folders", seen, n, folders)
	}
	for _, i := range []int{0, n / 2, n - 1} {
		var got bytes.Buffer
		must(t, read(t.Context(), c, manyobjects.Bucket, manyobjects.Key(i), &got))
		if got.String() != manyobjects.Content(i) {
			t.Errorf("object %d is %.40q", i, got.String())
		}
	}
	_, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String(manyobjects.Key(n / 2))})
	must(t, err)
	_, err = c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: aws.String(manyobjects.Key(n)), Body: bytes.NewReader(nil)})
	must(t, err)
	if b, err := k.client.Bucket(t.Context(), manyobjects.Bucket); err != nil || b.Usage.Objects != int64(n) {
		t.Errorf("the bucket has %d objects of %d, %v", b.Usage.Objects, n, err)
	}
	most, err := k.coord.MostMemory()
	must(t, err)
	t.Logf("%d keys: the coordinator held %.0f MB at most", n, most/1e6)
	if most > maxCoordinator {
		t.Errorf("the coordinator held %.0f bytes", most)
	}
}

// restoreMany gives the cluster that many objects.
func (k *cluster) restoreMany(n int) {
	k.t.Helper()
	path := filepath.Join(k.dir, "many.backup")
	f, err := os.Create(path)
	must(k.t, err)
	must(k.t, manyobjects.Backup(f, n))
	size, err := f.Seek(0, io.SeekCurrent)
	must(k.t, err)
	must(k.t, f.Close())
	must(k.t, k.client.RestoreStorage(k.t.Context(), size, func() (io.ReadCloser, error) { return os.Open(path) }))
	must(k.t, os.Remove(path))
}
