package s3

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/cloudless/cloudless/api"
)

// begin starts an upload of key k.
func begin(t testing.TB, c *sdk.Client, in sdk.CreateMultipartUploadInput) *string {
	t.Helper()
	in.Bucket, in.Key = str("assets"), str("k")
	out, err := c.CreateMultipartUpload(t.Context(), &in)
	must(t, err)
	return out.UploadId
}

func part(c *sdk.Client, t testing.TB, id *string, n int32, data []byte, algorithm types.ChecksumAlgorithm) (types.CompletedPart, error) {
	out, err := c.UploadPart(t.Context(), &sdk.UploadPartInput{Bucket: str("assets"), Key: str("k"), UploadId: id, PartNumber: &n, Body: bytes.NewReader(data), ChecksumAlgorithm: algorithm})
	if err != nil {
		return types.CompletedPart{}, err
	}
	return types.CompletedPart{
		PartNumber: &n, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32, ChecksumCRC32C: out.ChecksumCRC32C, ChecksumCRC64NVME: out.ChecksumCRC64NVME,
		ChecksumSHA1: out.ChecksumSHA1, ChecksumSHA256: out.ChecksumSHA256,
	}, nil
}

func complete(c *sdk.Client, t testing.TB, id *string, parts ...types.CompletedPart) (*sdk.CompleteMultipartUploadOutput, error) {
	return c.CompleteMultipartUpload(t.Context(), &sdk.CompleteMultipartUploadInput{
		Bucket: str("assets"), Key: str("k"), UploadId: id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
}

// Parts that come at the same time and in any order make up the object, with every checksum and type.
func TestMultipart(t *testing.T) {
	c := newWorld(t).bucket("assets")
	data := [][]byte{noiseOf(1, api.MinPartBytes), noiseOf(2, api.MinPartBytes+1), noiseOf(3, 100)}
	for algorithm, kinds := range map[types.ChecksumAlgorithm][]types.ChecksumType{
		"": {""}, "CRC32": {"", "COMPOSITE", "FULL_OBJECT"}, "CRC32C": {"COMPOSITE", "FULL_OBJECT"}, "CRC64NVME": {"", "FULL_OBJECT"}, "SHA1": {"COMPOSITE"}, "SHA256": {""},
	} {
		for _, kind := range kinds {
			id := begin(t, c, sdk.CreateMultipartUploadInput{ChecksumAlgorithm: algorithm, ChecksumType: kind, ContentType: str("text/x")})
			parts, errs := make([]types.CompletedPart, len(data)), make([]error, len(data))
			var all sync.WaitGroup
			for i := range data {
				all.Go(func() { parts[i], errs[i] = part(c, t, id, int32(i+1), data[i], algorithm) })
			}
			all.Wait()
			for _, err := range errs {
				must(t, err)
			}
			list, err := c.ListParts(t.Context(), &sdk.ListPartsInput{Bucket: str("assets"), Key: str("k"), UploadId: id, MaxParts: aws.Int32(2)})
			must(t, err)
			if len(list.Parts) != 2 || !*list.IsTruncated || *list.NextPartNumberMarker != "2" || *list.Parts[1].ETag != tagOf(data[1]) {
				t.Errorf("%+v", list)
			}
			out, err := complete(c, t, id, parts...)
			must(t, err)
			if !strings.HasSuffix(*out.ETag, `-3"`) {
				t.Errorf("ETag %s", *out.ETag)
			}
			got, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: str("k"), ChecksumMode: types.ChecksumModeEnabled})
			must(t, err)
			body, err := io.ReadAll(got.Body) // compared by the client where the checksum is of the whole
			must(t, err)
			if !bytes.Equal(body, bytes.Join(data, nil)) || *got.ContentType != "text/x" {
				t.Errorf("%s %s: %d bytes", algorithm, kind, len(body))
			}
			if algorithm != "" && got.ChecksumType == "" {
				t.Errorf("%s %s: no checksum", algorithm, kind)
			}
			again, err := complete(c, t, id, parts...) // the first answer may have been lost
			must(t, err)
			if *again.ETag != *out.ETag {
				t.Errorf("%s, then %s", *out.ETag, *again.ETag)
			}
		}
	}
}

// An upload that was begun without a checksum gives an object of which none is known: who asks for one to be
// compared is told so.
func TestAChecksumOfNoUpload(t *testing.T) {
	w := newWorld(t)
	w.bucket("assets")
	begun := w.ask("POST", "/assets/k?uploads", "")
	_, rest, _ := strings.Cut(begun.text, "<UploadId>")
	id, _, _ := strings.Cut(rest, "<")
	path := "/assets/k?uploadId=" + id
	tag := w.ask("PUT", path+"&partNumber=1", "hello").Header.Get("Etag")
	all := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + tag + "</ETag></Part></CompleteMultipartUpload>"
	w.ask("POST", path, all, "X-Amz-Checksum-Crc32", "NhCmhg==").says(t, "with a checksum", 400, "InvalidRequest")
	w.ask("POST", path, all).says(t, "without", 200, "")
	w.ask("POST", path, all, "X-Amz-Checksum-Crc32", "NhCmhg==").says(t, "once more", 200, "")
}

func TestMultipartIsRefused(t *testing.T) {
	c := newWorld(t).bucket("assets")
	id := begin(t, c, sdk.CreateMultipartUploadInput{})
	small, err := part(c, t, id, 1, noise(100), "")
	must(t, err)
	large, err := part(c, t, id, 2, noise(api.MinPartBytes), "")
	must(t, err)
	_, err = complete(c, t, id, small, large)
	wants(t, err, "EntityTooSmall")
	_, err = complete(c, t, id, large, small)
	wants(t, err, "InvalidPartOrder")
	_, err = complete(c, t, id, types.CompletedPart{PartNumber: aws.Int32(2), ETag: small.ETag})
	wants(t, err, "InvalidPart")
	for n, code := range map[int32]string{0: "InvalidArgument", api.MaxParts: "", api.MaxParts + 1: "InvalidArgument"} {
		_, err = part(c, t, id, n, nil, "")
		wants(t, err, code)
	}
	_, err = part(c, t, str("none"), 1, nil, "")
	wants(t, err, "NoSuchUpload")
	_, err = part(c, t, str("not/an id"), 1, nil, "")
	wants(t, err, "NoSuchUpload")
	_, err = c.AbortMultipartUpload(t.Context(), &sdk.AbortMultipartUploadInput{Bucket: str("assets"), Key: str("k"), UploadId: id})
	must(t, err)
	for range 2 {
		_, err = complete(c, t, id, large)
		wants(t, err, "NoSuchUpload")
	}
	_, err = c.AbortMultipartUpload(t.Context(), &sdk.AbortMultipartUploadInput{Bucket: str("assets"), Key: str("k"), UploadId: id})
	wants(t, err, "NoSuchUpload")
	_, err = c.CreateMultipartUpload(t.Context(), &sdk.CreateMultipartUploadInput{Bucket: str("assets"), Key: str("k"), ChecksumAlgorithm: "SHA256", ChecksumType: "FULL_OBJECT"})
	wants(t, err, "InvalidRequest")
	planned := begin(t, c, sdk.CreateMultipartUploadInput{ChecksumAlgorithm: "CRC32C"})
	_, err = part(c, t, planned, 1, nil, "SHA1")
	wants(t, err, "InvalidRequest")
	sized := begin(t, c, sdk.CreateMultipartUploadInput{})
	one, err := part(c, t, sized, 1, noise(100), "")
	must(t, err)
	in := &sdk.CompleteMultipartUploadInput{Bucket: str("assets"), Key: str("k"), UploadId: sized, MpuObjectSize: aws.Int64(99), MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{one}}}
	_, err = c.CompleteMultipartUpload(t.Context(), in)
	wants(t, err, "InvalidRequest")
	in.MpuObjectSize = aws.Int64(100)
	_, err = c.CompleteMultipartUpload(t.Context(), in)
	must(t, err)
}

// Two uploads of one key are apart; the one that is completed last is the object.
func TestUploadsOfOneKey(t *testing.T) {
	c := newWorld(t).bucket("assets")
	first, second := begin(t, c, sdk.CreateMultipartUploadInput{}), begin(t, c, sdk.CreateMultipartUploadInput{})
	a, err := part(c, t, first, 1, []byte("first"), "")
	must(t, err)
	b, err := part(c, t, second, 1, []byte("second"), "")
	must(t, err)
	_, err = complete(c, t, second, b)
	must(t, err)
	_, err = complete(c, t, first, a)
	must(t, err)
	if got := get(t, c, "k"); string(got) != "first" {
		t.Errorf("%q", got)
	}
}

func TestUploadsAreListed(t *testing.T) {
	c := newWorld(t).bucket("assets")
	for _, key := range []string{"a", "a", "b/1", "b/2", "c"} {
		_, err := c.CreateMultipartUpload(t.Context(), &sdk.CreateMultipartUploadInput{Bucket: str("assets"), Key: &key})
		must(t, err)
	}
	for _, delimiter := range []*string{nil, str("/")} {
		want := "a a b/1 b/2 c"
		if delimiter != nil {
			want = "a a b/ c"
		}
		for most := int32(1); most < 7; most++ {
			var got []string
			in := &sdk.ListMultipartUploadsInput{Bucket: str("assets"), Delimiter: delimiter, MaxUploads: &most}
			for more := true; more; {
				out, err := c.ListMultipartUploads(t.Context(), in)
				must(t, err)
				for _, u := range out.Uploads {
					got = append(got, *u.Key)
				}
				for _, p := range out.CommonPrefixes {
					got = append(got, *p.Prefix)
				}
				if n := len(out.Uploads) + len(out.CommonPrefixes); n > int(most) {
					t.Errorf("%d of at most %d", n, most)
				}
				in.KeyMarker, in.UploadIdMarker, more = out.NextKeyMarker, out.NextUploadIdMarker, *out.IsTruncated
			}
			slices.Sort(got)
			if text := strings.Join(got, " "); text != want {
				t.Errorf("pages of %d: %q, want %q", most, text, want)
			}
		}
	}
}

func TestCopies(t *testing.T) {
	c := newWorld(t).bucket("assets")
	data := noise(6 << 20)
	_, err := c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("from"), Body: bytes.NewReader(data), ContentType: str("text/x"), Tagging: str("a=1"), ChecksumAlgorithm: "SHA1"})
	must(t, err)
	copied := func(in sdk.CopyObjectInput) (*sdk.HeadObjectOutput, error) {
		in.Bucket, in.Key, in.CopySource = str("assets"), str("to"), str("/assets/from")
		if _, err := c.CopyObject(t.Context(), &in); err != nil {
			return nil, err
		}
		return c.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: str("assets"), Key: str("to"), ChecksumMode: types.ChecksumModeEnabled})
	}
	h, err := copied(sdk.CopyObjectInput{})
	must(t, err)
	if *h.ContentType != "text/x" || *h.TagCount != 1 || h.ChecksumSHA1 == nil || *h.ETag != tagOf(data) {
		t.Errorf("%+v", h)
	}
	h, err = copied(sdk.CopyObjectInput{MetadataDirective: "REPLACE", ContentType: str("a/b"), Metadata: map[string]string{"x": "y"}, TaggingDirective: "REPLACE", Tagging: str("b=1&c=2")})
	must(t, err)
	if *h.ContentType != "a/b" || h.Metadata["x"] != "y" || *h.TagCount != 2 || h.ChecksumSHA1 == nil {
		t.Errorf("%+v", h)
	}
	for name, test := range map[string]struct {
		in   sdk.CopyObjectInput
		code string
	}{
		"match": {sdk.CopyObjectInput{CopySourceIfMatch: str(tagOf(data))}, ""}, "no match": {sdk.CopyObjectInput{CopySourceIfMatch: str("x")}, "PreconditionFailed"},
		"none": {sdk.CopyObjectInput{CopySourceIfNoneMatch: str(tagOf(data))}, "PreconditionFailed"}, "exists": {sdk.CopyObjectInput{IfNoneMatch: str("*")}, "PreconditionFailed"},
		"same checksum": {sdk.CopyObjectInput{ChecksumAlgorithm: "SHA1"}, ""}, "another checksum": {sdk.CopyObjectInput{ChecksumAlgorithm: "CRC32"}, "NotImplemented"},
	} {
		_, err := copied(test.in)
		t.Log(name)
		wants(t, err, test.code)
	}
	if got := get(t, c, "to"); !bytes.Equal(got, data) {
		t.Errorf("%d bytes", len(got))
	}
	_, err = c.CopyObject(t.Context(), &sdk.CopyObjectInput{Bucket: str("assets"), Key: str("from"), CopySource: str("assets/from")})
	wants(t, err, "InvalidRequest")
	_, err = c.CopyObject(t.Context(), &sdk.CopyObjectInput{Bucket: str("assets"), Key: str("to"), CopySource: str("assets/none")})
	wants(t, err, "NoSuchKey")
	_, err = c.CopyObject(t.Context(), &sdk.CopyObjectInput{Bucket: str("assets"), Key: str("to"), CopySource: str("assets")})
	wants(t, err, "InvalidArgument")
}

func TestPartsAreCopied(t *testing.T) {
	c := newWorld(t).bucket("assets")
	data := noise(api.MinPartBytes + 10)
	put(t, c, "from", data)
	id := begin(t, c, sdk.CreateMultipartUploadInput{ChecksumAlgorithm: "CRC32"})
	var parts []types.CompletedPart
	for i, text := range []string{"bytes=5-5242884", "bytes=0-9"} {
		n := int32(i + 1)
		out, err := c.UploadPartCopy(t.Context(), &sdk.UploadPartCopyInput{Bucket: str("assets"), Key: str("k"), UploadId: id, PartNumber: &n, CopySource: str("assets/from"), CopySourceRange: &text})
		must(t, err)
		parts = append(parts, types.CompletedPart{PartNumber: &n, ETag: out.CopyPartResult.ETag, ChecksumCRC32: out.CopyPartResult.ChecksumCRC32})
	}
	for _, text := range []string{fmt.Sprintf("bytes=0-%d", len(data)), "bytes=5-", "bytes=-5", "0-5"} {
		_, err := c.UploadPartCopy(t.Context(), &sdk.UploadPartCopyInput{Bucket: str("assets"), Key: str("k"), UploadId: id, PartNumber: aws.Int32(3), CopySource: str("assets/from"), CopySourceRange: &text})
		wants(t, err, "InvalidArgument")
	}
	_, err := complete(c, t, id, parts...)
	must(t, err)
	if got := get(t, c, "k"); !bytes.Equal(got, append(bytes.Clone(data[5:5242885]), data[:10]...)) {
		t.Errorf("%d bytes", len(got))
	}
}

// An object is read by the parts that it was uploaded in, whatever numbers they had, and tells them.
func TestReadingByPart(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	data := [][]byte{noiseOf(1, api.MinPartBytes), noiseOf(2, api.MinPartBytes+1<<20+7), noiseOf(3, 100)}
	id := begin(t, c, sdk.CreateMultipartUploadInput{ChecksumAlgorithm: "CRC32"})
	var parts []types.CompletedPart
	for i, b := range data {
		p, err := part(c, t, id, int32(10*i+1), b, "CRC32")
		must(t, err)
		parts = append(parts, p)
	}
	_, err := complete(c, t, id, parts...)
	must(t, err)
	whole := int64(len(bytes.Join(data, nil)))
	var from int64
	for i, b := range data {
		n := int32(i + 1)
		out, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: str("k"), PartNumber: &n, ChecksumMode: types.ChecksumModeEnabled})
		must(t, err)
		got, err := io.ReadAll(out.Body)
		must(t, err)
		head, err := c.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: str("assets"), Key: str("k"), PartNumber: &n})
		must(t, err)
		want := fmt.Sprintf("bytes %d-%d/%d", from, from+int64(len(b))-1, whole)
		if !bytes.Equal(got, b) || *out.ContentRange != want || *head.ContentRange != want || *out.PartsCount != 3 || *head.PartsCount != 3 || *head.ContentLength != int64(len(b)) {
			t.Errorf("part %d: %d bytes, %+v", n, len(got), head)
		}
		from += int64(len(b))
	}
	put(t, c, "once", []byte("once"))
	put(t, c, "empty", nil)
	for path, want := range map[string][2]string{
		"/assets/k?partNumber=4": {"416", "InvalidPartNumber"}, "/assets/k?partNumber=0": {"400", "InvalidArgument"}, "/assets/k?partNumber=x": {"400", "InvalidArgument"}, "/assets/once?partNumber=1": {"206", ""},
		"/assets/once?partNumber=2": {"416", "InvalidPartNumber"}, "/assets/empty?partNumber=1": {"200", ""}, "/assets/none?partNumber=1": {"404", "NoSuchKey"},
	} {
		status, err := strconv.Atoi(want[0])
		must(t, err)
		w.ask("GET", path, "").says(t, path, status, want[1])
		if head := w.ask("HEAD", path, ""); head.StatusCode != status {
			t.Errorf("HEAD %s: %d", path, head.StatusCode)
		}
	}
	w.ask("GET", "/assets/k?partNumber=1", "", "Range", "bytes=0-1").says(t, "a range of a part", 400, "InvalidRequest")
}

// The attributes of an object list its parts, some at a time.
func TestPartsAreAttributes(t *testing.T) {
	c := newWorld(t).bucket("assets")
	id := begin(t, c, sdk.CreateMultipartUploadInput{})
	var parts []types.CompletedPart
	for i, n := range []int{api.MinPartBytes, api.MinPartBytes + 1, 7} {
		p, err := part(c, t, id, int32(i+1), noise(n), "")
		must(t, err)
		parts = append(parts, p)
	}
	_, err := complete(c, t, id, parts...)
	must(t, err)
	ask := func(marker *string, most int32) *types.GetObjectAttributesParts {
		out, err := c.GetObjectAttributes(t.Context(), &sdk.GetObjectAttributesInput{Bucket: str("assets"), Key: str("k"), ObjectAttributes: []types.ObjectAttributes{"ObjectParts", "ObjectSize"}, PartNumberMarker: marker, MaxParts: &most})
		must(t, err)
		return out.ObjectParts
	}
	first := ask(nil, 2)
	if len(first.Parts) != 2 || !*first.IsTruncated || *first.TotalPartsCount != 3 || *first.Parts[1].Size != api.MinPartBytes+1 || *first.NextPartNumberMarker != "2" {
		t.Errorf("%+v", first)
	}
	rest := ask(first.NextPartNumberMarker, 2)
	if len(rest.Parts) != 1 || *rest.IsTruncated || *rest.Parts[0].PartNumber != 3 || *rest.Parts[0].Size != 7 {
		t.Errorf("%+v", rest)
	}
	if none := ask(nil, 0); len(none.Parts) != 0 || *none.IsTruncated {
		t.Errorf("%+v", none)
	}
	put(t, c, "once", nil)
	out, err := c.GetObjectAttributes(t.Context(), &sdk.GetObjectAttributesInput{Bucket: str("assets"), Key: str("once"), ObjectAttributes: []types.ObjectAttributes{"ObjectParts"}})
	if must(t, err); out.ObjectParts != nil {
		t.Errorf("%+v", out.ObjectParts)
	}
}
