package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/cloudless/cloudless/api"
)

// These tests drive the door with Amazon's own client.

func lower(s string) string        { return strings.ToLower(s) }
func join(s []string) string       { return strings.Join(s, ";") }
func hexed(b []byte) string        { return hex.EncodeToString(b) }
func b64(b []byte) string          { return base64.StdEncoding.EncodeToString(b) }
func str(s string) *string         { return &s }
func noise(n int) []byte           { return noiseOf(1, n) }
func tagOf(b []byte) string        { return fmt.Sprintf(`"%x"`, md5.Sum(b)) }
func must(t testing.TB, err error) { t.Helper(); wants(t, err, "") }

func noiseOf(seed byte, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{seed})
	r.Read(b) // never fails
	return b
}

// wants checks the code of S3 of an error, "" for none.
func wants(t testing.TB, err error, code string) {
	t.Helper()
	var e smithy.APIError
	got := ""
	if errors.As(err, &e) {
		got = e.ErrorCode()
	} else if err != nil {
		got = err.Error()
	}
	if got != code {
		t.Fatalf("%v, want %q", err, code)
	}
}

func put(t testing.TB, c *sdk.Client, key string, data []byte) *sdk.PutObjectOutput {
	t.Helper()
	out, err := c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: &key, Body: bytes.NewReader(data)})
	must(t, err)
	return out
}

func get(t testing.TB, c *sdk.Client, key string) []byte {
	t.Helper()
	out, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: &key})
	must(t, err)
	data, err := io.ReadAll(out.Body)
	must(t, err)
	return data
}

// What is put comes back, whatever its size.
func TestObjectsOfEverySize(t *testing.T) {
	c := newWorld(t).bucket("assets")
	for _, n := range []int{0, 1, api.MaxInlineBytes, api.MaxInlineBytes + 1, 1 << 20, 1<<20 + 1, 5<<20 + 17} {
		data := noise(n)
		if out := put(t, c, "k", data); *out.ETag != tagOf(data) {
			t.Errorf("%d bytes: ETag %s, want %s", n, *out.ETag, tagOf(data))
		}
		if got := get(t, c, "k"); !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back as %d others", n, len(got))
		}
		head, err := c.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: str("assets"), Key: str("k")})
		must(t, err)
		if *head.ContentLength != int64(n) || *head.ETag != tagOf(data) || *head.ContentType != "application/octet-stream" {
			t.Errorf("%d bytes: %+v", n, head)
		}
	}
}

// oddKeys are keys that a careless path, query or document would change.
var oddKeys = []string{
	"a b", "a+b", "a%20b", "ä/ö", "日本", "a//b", "/leading", "trailing/", ".", "..", "a/../b", "./a", "~!@#$%^&*()_-+={}[]|\\:;\"'<>,?", "a?b=c&d", "a\tb\nc\rd", "\x01\x7f",
	strings.Repeat("k", api.MaxObjectKeyBytes), strings.Repeat("ü", api.MaxObjectKeyBytes/2), "a\u2028b", "%", "%zz", "a=b", "a;b", "{}", "\\x00",
}

// Every key is put, listed, read, copied and deleted under its own name.
func TestOddKeys(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	for _, key := range oddKeys {
		put(t, c, key, []byte(key))
		if got := get(t, c, key); string(got) != key {
			t.Errorf("%q came back as %q", key, got)
		}
	}
	out, err := c.ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: str("assets"), EncodingType: types.EncodingTypeUrl})
	must(t, err)
	var got []string
	for _, o := range out.Contents {
		got = append(got, unescape(t, *o.Key))
	}
	want := slices.Sorted(slices.Values(oddKeys))
	if !slices.Equal(got, want) {
		t.Errorf("listed are\n%q, want\n%q", got, want)
	}
	for _, key := range oddKeys {
		source := "assets/" + escape(key, true)
		_, err := c.CopyObject(t.Context(), &sdk.CopyObjectInput{Bucket: str("assets"), Key: str("copy"), CopySource: &source})
		must(t, err)
		if got := get(t, c, "copy"); string(got) != key {
			t.Errorf("the copy of %q is %q", key, got)
		}
		_, err = c.DeleteObject(t.Context(), &sdk.DeleteObjectInput{Bucket: str("assets"), Key: &key})
		must(t, err)
		_, err = c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: &key})
		wants(t, err, "NoSuchKey")
	}
	long := strings.Repeat("k", api.MaxObjectKeyBytes+1)
	_, err = c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: &long})
	wants(t, err, "KeyTooLongError")
}

func unescape(t testing.TB, s string) string {
	t.Helper()
	q, ok := parseParams("k=" + s)
	if !ok {
		t.Fatalf("%q is not encoded", s)
	}
	return q.get("k")
}

// All that a client says of an object is kept and given back; a signed request may choose other headers.
func TestHeadsComeBack(t *testing.T) {
	c := newWorld(t).bucket("assets")
	_, err := c.PutObject(t.Context(), &sdk.PutObjectInput{
		Bucket: str("assets"), Key: str("k"), Body: strings.NewReader("hello"), ContentType: str("text/x"), CacheControl: str("no-store"), ContentDisposition: str("inline"),
		ContentEncoding: str("gzip"), ContentLanguage: str("de"), Expires: aws.Time(time.Unix(1e9, 0)), Metadata: map[string]string{"owner": "ann"}, Tagging: str("a=1&b=x%20y"),
	})
	must(t, err)
	h, err := c.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: str("assets"), Key: str("k")})
	must(t, err)
	got := []string{*h.ContentType, *h.CacheControl, *h.ContentDisposition, *h.ContentEncoding, *h.ContentLanguage, *h.ExpiresString, h.Metadata["owner"], fmt.Sprint(*h.TagCount)}
	want := []string{"text/x", "no-store", "inline", "gzip", "de", time.Unix(1e9, 0).UTC().Format(http.TimeFormat), "ann", "2"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	o, err := c.GetObject(t.Context(), &sdk.GetObjectInput{
		Bucket: str("assets"), Key: str("k"), ResponseContentType: str("a/b"), ResponseCacheControl: str("x"), ResponseContentDisposition: str("attachment"), ResponseContentEncoding: str("identity"),
		ResponseContentLanguage: str("fr"), ResponseExpires: aws.Time(time.Unix(2e9, 0)),
	})
	must(t, err)
	o.Body.Close()
	got = []string{*o.ContentType, *o.CacheControl, *o.ContentDisposition, *o.ContentEncoding, *o.ContentLanguage, *o.ExpiresString}
	if want := []string{"a/b", "x", "attachment", "identity", "fr", time.Unix(2e9, 0).UTC().Format(http.TimeFormat)}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	_, err = c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("k"), Metadata: map[string]string{"a": strings.Repeat("x", api.MaxObjectMetadataBytes)}})
	wants(t, err, "MetadataTooLarge")
}

// Every checksum that SDKs send is compared with the bytes, kept, and given back, also when it comes behind
// the bytes.
func TestChecksums(t *testing.T) {
	c := newWorld(t).bucket("assets")
	data := noise(2<<20 + 5)
	for _, name := range types.ChecksumAlgorithm("").Values() {
		if s := string(name); !slices.Contains([]string{"CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"}, s) {
			continue
		}
		in := &sdk.PutObjectInput{Bucket: str("assets"), Key: str("k"), Body: bytes.NewReader(data), ChecksumAlgorithm: name}
		_, err := c.PutObject(t.Context(), in)
		must(t, err)
		out, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: str("k"), ChecksumMode: types.ChecksumModeEnabled})
		must(t, err)
		got, err := io.ReadAll(out.Body) // the client compares, too
		must(t, err)
		sums := map[types.ChecksumAlgorithm]*string{"CRC32": out.ChecksumCRC32, "CRC32C": out.ChecksumCRC32C, "CRC64NVME": out.ChecksumCRC64NVME, "SHA1": out.ChecksumSHA1, "SHA256": out.ChecksumSHA256}
		if !bytes.Equal(got, data) || sums[name] == nil || out.ChecksumType != types.ChecksumTypeFullObject {
			t.Errorf("%s: %d bytes, %+v", name, len(got), out)
		}
	}
	_, err := c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("k"), Body: strings.NewReader("hello"), ChecksumSHA1: str("qvTGHdzF6KLavt4PO0gs2a6pQ00=")})
	must(t, err)
	_, err = c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("k"), Body: strings.NewReader("hellO"), ChecksumSHA1: str("qvTGHdzF6KLavt4PO0gs2a6pQ00=")})
	wants(t, err, "BadDigest")
	_, err = c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("k"), Body: strings.NewReader("hello"), ContentMD5: str("XUFAKrxLKna5cZ2REBfFkg==")})
	must(t, err)
	_, err = c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("k"), Body: strings.NewReader("hellO"), ContentMD5: str("XUFAKrxLKna5cZ2REBfFkg==")})
	wants(t, err, "BadDigest")
	if got := get(t, c, "k"); string(got) != "hello" {
		t.Errorf("a refused put left %q", got)
	}
}

func TestRanges(t *testing.T) {
	c := newWorld(t).bucket("assets")
	data := noise(3<<20 + 7)
	put(t, c, "k", data)
	n := len(data)
	for text, want := range map[string][2]int{
		"bytes=0-0": {0, 1}, "bytes=5-9": {5, 10}, "bytes=1048570-1048585": {1048570, 1048586}, fmt.Sprintf("bytes=%d-", n-1): {n - 1, n}, "bytes=-7": {n - 7, n},
		"bytes=10-99999999999": {10, n}, "bytes=-99999999999": {0, n},
	} {
		out, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: str("k"), Range: &text})
		must(t, err)
		got, err := io.ReadAll(out.Body)
		must(t, err)
		if !bytes.Equal(got, data[want[0]:want[1]]) || *out.ContentRange != fmt.Sprintf("bytes %d-%d/%d", want[0], want[1]-1, n) {
			t.Errorf("%s: %d bytes, %s", text, len(got), *out.ContentRange)
		}
	}
	for _, text := range []string{fmt.Sprintf("bytes=%d-", n), "bytes=-0"} {
		_, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: str("k"), Range: &text})
		wants(t, err, "InvalidRange")
	}
	for _, text := range []string{"bytes=5-2", "bytes=a-b", "bytes=1-2,5-6", "lines=1-2", "bytes=", "bytes=-"} {
		out, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: str("k"), Range: &text})
		must(t, err)
		out.Body.Close()
		if out.ContentRange != nil || *out.ContentLength != int64(n) {
			t.Errorf("%s gave a part", text)
		}
	}
	put(t, c, "empty", nil)
	_, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: str("empty"), Range: str("bytes=0-0")})
	wants(t, err, "InvalidRange")
}

func TestConditions(t *testing.T) {
	c := newWorld(t).bucket("assets")
	tag := put(t, c, "k", []byte("one")).ETag
	head, err := c.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: str("assets"), Key: str("k")})
	must(t, err)
	at, other := head.LastModified, str(`"0123"`)
	before, after := aws.Time(at.Add(-time.Hour)), aws.Time(at.Add(time.Hour))
	for name, test := range map[string]struct {
		in   sdk.GetObjectInput
		code string
	}{
		"match": {sdk.GetObjectInput{IfMatch: tag}, ""}, "no match": {sdk.GetObjectInput{IfMatch: other}, "PreconditionFailed"},
		"none match": {sdk.GetObjectInput{IfNoneMatch: other}, ""}, "none matches": {sdk.GetObjectInput{IfNoneMatch: tag}, "NotModified"},
		"modified": {sdk.GetObjectInput{IfModifiedSince: before}, ""}, "not modified": {sdk.GetObjectInput{IfModifiedSince: at}, "NotModified"},
		"unmodified": {sdk.GetObjectInput{IfUnmodifiedSince: at}, ""}, "not unmodified": {sdk.GetObjectInput{IfUnmodifiedSince: before}, "PreconditionFailed"},
		"match counts more": {sdk.GetObjectInput{IfMatch: tag, IfUnmodifiedSince: before}, ""}, "none match counts more": {sdk.GetObjectInput{IfNoneMatch: other, IfModifiedSince: after}, ""},
	} {
		test.in.Bucket, test.in.Key = str("assets"), str("k")
		_, err := c.GetObject(t.Context(), &test.in)
		t.Log(name)
		wants(t, err, test.code)
	}
	_, err = c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("k"), IfNoneMatch: str("*")})
	wants(t, err, "PreconditionFailed")
	_, err = c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("new"), IfNoneMatch: str("*")})
	must(t, err)
	_, err = c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("k"), IfMatch: other})
	wants(t, err, "PreconditionFailed")
	_, err = c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("none"), IfMatch: other})
	wants(t, err, "NoSuchKey")
	_, err = c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("k"), IfMatch: tag, Body: strings.NewReader("two")})
	must(t, err)
	_, err = c.DeleteObject(t.Context(), &sdk.DeleteObjectInput{Bucket: str("assets"), Key: str("k"), IfMatch: tag})
	wants(t, err, "PreconditionFailed")
	if got := get(t, c, "k"); string(got) != "two" {
		t.Errorf("%q", got)
	}
}

func TestLists(t *testing.T) {
	c := newWorld(t).bucket("assets")
	keys := []string{"a", "b/1", "b/2", "b/3", "c/x/1", "c/y", "d", "e"}
	for _, key := range keys {
		put(t, c, key, nil)
	}
	for most := int32(1); most <= 9; most++ {
		for _, v2 := range []bool{false, true} {
			var got []string
			in := &sdk.ListObjectsV2Input{Bucket: str("assets"), Delimiter: str("/"), MaxKeys: &most}
			pages := sdk.NewListObjectsV2Paginator(c, in)
			var marker *string
			for more := true; more; {
				var objects []types.Object
				var prefixes []types.CommonPrefix
				if v2 {
					out, err := pages.NextPage(t.Context())
					must(t, err)
					objects, prefixes, more = out.Contents, out.CommonPrefixes, pages.HasMorePages()
					if int(*out.KeyCount) != len(objects)+len(prefixes) {
						t.Errorf("%d keys counted of %d", *out.KeyCount, len(objects)+len(prefixes))
					}
				} else {
					out, err := c.ListObjects(t.Context(), &sdk.ListObjectsInput{Bucket: in.Bucket, Delimiter: in.Delimiter, MaxKeys: in.MaxKeys, Marker: marker})
					must(t, err)
					objects, prefixes, more, marker = out.Contents, out.CommonPrefixes, *out.IsTruncated, out.NextMarker
				}
				if len(objects)+len(prefixes) > int(most) {
					t.Errorf("%d of at most %d", len(objects)+len(prefixes), most)
				}
				for _, o := range objects {
					got = append(got, *o.Key)
				}
				for _, p := range prefixes {
					got = append(got, *p.Prefix)
				}
			}
			slices.Sort(got)
			if want := []string{"a", "b/", "c/", "d", "e"}; !slices.Equal(got, want) {
				t.Errorf("pages of %d, v2 %v: %q", most, v2, got)
			}
		}
	}
	out, err := c.ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: str("assets"), Prefix: str("b/"), StartAfter: str("b/1"), FetchOwner: aws.Bool(true)})
	must(t, err)
	if len(out.Contents) != 2 || *out.Contents[0].Key != "b/2" || *out.Contents[0].Owner.ID != ownerID || *out.Contents[0].ETag != tagOf(nil) {
		t.Errorf("%+v", out.Contents)
	}
	out, err = c.ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: str("assets"), MaxKeys: aws.Int32(0)})
	must(t, err)
	if len(out.Contents) != 0 || *out.IsTruncated {
		t.Errorf("%+v", out)
	}
	_, err = c.ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: str("assets"), ContinuationToken: str("%%%")})
	wants(t, err, "InvalidArgument")
	_, err = c.ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: str("nothing"), MaxKeys: aws.Int32(0)})
	wants(t, err, "NoSuchBucket")
	versions, err := c.ListObjectVersions(t.Context(), &sdk.ListObjectVersionsInput{Bucket: str("assets"), MaxKeys: aws.Int32(3)})
	must(t, err)
	if len(versions.Versions) != 3 || *versions.Versions[0].VersionId != "null" || !*versions.IsTruncated || *versions.NextKeyMarker != "b/2" {
		t.Errorf("%+v", versions)
	}
}

func TestPagesOfBuckets(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.bucket(fmt.Sprint("log-", i))
	}
	c := w.bucket("other")
	for prefix, want := range map[string]string{"": "log-0 log-1,log-2 log-3,log-4 other", "log-": "log-0 log-1,log-2 log-3,log-4", "x": ""} {
		var pages []string
		for all := sdk.NewListBucketsPaginator(c, &sdk.ListBucketsInput{Prefix: &prefix, MaxBuckets: aws.Int32(2)}); all.HasMorePages(); {
			page, err := all.NextPage(t.Context())
			must(t, err)
			var names []string
			for _, b := range page.Buckets {
				names = append(names, *b.Name)
			}
			pages = append(pages, strings.Join(names, " "))
		}
		if got := strings.Join(pages, ","); got != want {
			t.Errorf("%q: %s, want %s", prefix, got, want)
		}
	}
	_, err := c.ListBuckets(t.Context(), &sdk.ListBucketsInput{MaxBuckets: aws.Int32(0)})
	wants(t, err, "InvalidArgument")
	_, err = c.ListBuckets(t.Context(), &sdk.ListBucketsInput{ContinuationToken: str("?")})
	wants(t, err, "InvalidArgument")
}

func TestBuckets(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	w.bucket("other")
	ctx := t.Context()
	_, err := c.CreateBucket(ctx, &sdk.CreateBucketInput{Bucket: str("assets")})
	wants(t, err, "BucketAlreadyOwnedByYou")
	_, err = c.CreateBucket(ctx, &sdk.CreateBucketInput{Bucket: str("Assets")})
	wants(t, err, "InvalidBucketName")
	_, err = c.CreateBucket(ctx, &sdk.CreateBucketInput{Bucket: str("third"), CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "eu-west-1"}})
	must(t, err)
	tagged := &types.CreateBucketConfiguration{Tags: []types.Tag{{Key: str("team"), Value: str("a")}}}
	_, err = c.CreateBucket(ctx, &sdk.CreateBucketInput{Bucket: str("third"), CreateBucketConfiguration: tagged})
	wants(t, err, "BucketAlreadyOwnedByYou")
	_, err = c.DeleteBucket(ctx, &sdk.DeleteBucketInput{Bucket: str("third")})
	must(t, err)
	_, err = c.CreateBucket(ctx, &sdk.CreateBucketInput{Bucket: str("third"), CreateBucketConfiguration: tagged})
	must(t, err)
	tags, err := c.GetBucketTagging(ctx, &sdk.GetBucketTaggingInput{Bucket: str("third")})
	must(t, err)
	if len(tags.TagSet) != 1 || *tags.TagSet[0].Value != "a" {
		t.Errorf("%+v", tags.TagSet)
	}
	_, err = c.CreateBucket(ctx, &sdk.CreateBucketInput{Bucket: str("fourth"), CreateBucketConfiguration: &types.CreateBucketConfiguration{Bucket: &types.BucketInfo{Type: "Directory"}}})
	wants(t, err, "NotImplemented")
	list, err := c.ListBuckets(ctx, &sdk.ListBucketsInput{})
	must(t, err)
	if len(list.Buckets) != 3 || *list.Buckets[0].Name != "assets" || list.Buckets[0].CreationDate.IsZero() {
		t.Errorf("%+v", list.Buckets)
	}
	_, err = c.HeadBucket(ctx, &sdk.HeadBucketInput{Bucket: str("assets")})
	must(t, err)
	_, err = c.HeadBucket(ctx, &sdk.HeadBucketInput{Bucket: str("nothing")})
	wants(t, err, "NotFound")
	put(t, c, "k", nil)
	_, err = c.DeleteBucket(ctx, &sdk.DeleteBucketInput{Bucket: str("assets")})
	wants(t, err, "BucketNotEmpty")
	_, err = c.DeleteBucket(ctx, &sdk.DeleteBucketInput{Bucket: str("other")})
	must(t, err)
	_, err = c.PutObject(ctx, &sdk.PutObjectInput{Bucket: str("other"), Key: str("k")})
	wants(t, err, "NoSuchBucket")
	where, err := c.GetBucketLocation(ctx, &sdk.GetBucketLocationInput{Bucket: str("assets")})
	must(t, err)
	if where.LocationConstraint != "eu-west-1" {
		t.Errorf("%q", where.LocationConstraint)
	}
	versioning, err := c.GetBucketVersioning(ctx, &sdk.GetBucketVersioningInput{Bucket: str("assets")})
	must(t, err)
	if versioning.Status != "" {
		t.Errorf("%q", versioning.Status)
	}
	acl, err := c.GetBucketAcl(ctx, &sdk.GetBucketAclInput{Bucket: str("assets")})
	must(t, err)
	if len(acl.Grants) != 1 || acl.Grants[0].Permission != types.PermissionFullControl || *acl.Grants[0].Grantee.ID != ownerID {
		t.Errorf("%+v", acl.Grants)
	}
	_, err = c.GetBucketPolicy(ctx, &sdk.GetBucketPolicyInput{Bucket: str("assets")})
	wants(t, err, "NoSuchBucketPolicy")
	_, err = c.GetBucketPolicy(ctx, &sdk.GetBucketPolicyInput{Bucket: str("nothing")})
	wants(t, err, "NoSuchBucket")
	_, err = c.PutBucketVersioning(ctx, &sdk.PutBucketVersioningInput{Bucket: str("assets"), VersioningConfiguration: &types.VersioningConfiguration{Status: "Enabled"}})
	wants(t, err, "NotImplemented")
	_, err = c.PutObjectAcl(ctx, &sdk.PutObjectAclInput{Bucket: str("assets"), Key: str("k"), ACL: types.ObjectCannedACLPublicRead})
	wants(t, err, "AccessControlListNotSupported")
}

// What the store does not do is refused, so that nobody believes that it was done.
func TestWhatIsNotBuiltIsRefused(t *testing.T) {
	c := newWorld(t).bucket("assets")
	for name, in := range map[string]struct {
		put  sdk.PutObjectInput
		code string
	}{
		"encryption":  {sdk.PutObjectInput{ServerSideEncryption: types.ServerSideEncryptionAes256}, "NotImplemented"},
		"lock":        {sdk.PutObjectInput{ObjectLockLegalHoldStatus: types.ObjectLockLegalHoldStatusOn}, "NotImplemented"},
		"redirect":    {sdk.PutObjectInput{WebsiteRedirectLocation: str("/x")}, "NotImplemented"},
		"other class": {sdk.PutObjectInput{StorageClass: types.StorageClassGlacier}, "InvalidStorageClass"},
		"public":      {sdk.PutObjectInput{ACL: types.ObjectCannedACLPublicRead}, "AccessControlListNotSupported"},
		"a grant":     {sdk.PutObjectInput{GrantRead: str("id=x")}, "AccessControlListNotSupported"},
		"an owner":    {sdk.PutObjectInput{ExpectedBucketOwner: str("123")}, "AccessDenied"},
		"none match":  {sdk.PutObjectInput{IfNoneMatch: str("abc")}, "NotImplemented"},
		"private":     {sdk.PutObjectInput{ACL: types.ObjectCannedACLPrivate, StorageClass: types.StorageClassStandard, ExpectedBucketOwner: str(ownerID)}, ""},
	} {
		in.put.Bucket, in.put.Key = str("assets"), str("k")
		_, err := c.PutObject(t.Context(), &in.put)
		t.Log(name)
		wants(t, err, in.code)
	}
	_, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: str("k"), VersionId: str("v1")})
	wants(t, err, "NoSuchVersion")
	_, err = c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: str("k"), VersionId: str("null")})
	must(t, err)
	_, err = c.RestoreObject(t.Context(), &sdk.RestoreObjectInput{Bucket: str("assets"), Key: str("k"), RestoreRequest: &types.RestoreRequest{Days: aws.Int32(1)}})
	wants(t, err, "NotImplemented")
}

// The metadata cannot be reached: come again, in S3's words.
func TestAnUnavailableStoreSaysSo(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	w.mu.Lock()
	w.down = api.Errorf(api.CodeUnavailable, "there is no leader")
	w.mu.Unlock()
	_, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: str("k")})
	wants(t, err, "ServiceUnavailable")
	var e interface{ HTTPStatusCode() int }
	if !errors.As(err, &e) || e.HTTPStatusCode() != http.StatusServiceUnavailable {
		t.Error(err)
	}
	w.keys.mu.Lock()
	w.keys.down = api.Errorf(api.CodeUnavailable, "no coordinator answers")
	w.keys.mu.Unlock()
	_, err = w.client(func(o *sdk.Options) { o.Region = "us-east-1" }).ListBuckets(context.Background(), &sdk.ListBucketsInput{})
	wants(t, err, "ServiceUnavailable")
}
