package s3

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/gateway"
)

// These tests say what Amazon's own client never says, but others do.

// ask sends a signed request; headers are names and values by turns.
func (w *world) ask(method, path, body string, headers ...string) answerText {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	must(w.t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header[http.CanonicalHeaderKey(headers[i])] = []string{headers[i+1]}
	}
	sign(r, hashed(body), time.Now())
	return w.send(r)
}

// says checks the status of an answer and, where it is an error with a body, that it is S3's and whole.
func (a answerText) says(t testing.TB, what string, status int, code string) {
	t.Helper()
	var e Error
	if strings.Contains(a.text, "<Error>") {
		if err := xml.Unmarshal([]byte(a.text), &e); err != nil || e.Message == "" || e.RequestID == "" || e.Resource == "" {
			t.Errorf("%s: %v: %s", what, err, a.text)
		}
	}
	if a.StatusCode != status || e.Code != code {
		t.Errorf("%s: %d %s, want %d %s", what, a.StatusCode, a.text, status, code)
	}
}

// MinIO's clients have an empty line between a trailer and its signature, and more of them at the end.
func TestASignedTrailerOfMinIO(t *testing.T) {
	whole, c := trailerExample("sOO8/Q==")
	b, err := io.ReadAll(whole)
	must(t, err)
	body := strings.Replace(string(b), "\r\nx-amz-trailer-signature", "\n\r\nx-amz-trailer-signature", 1)
	in := newChunkedReader(strings.NewReader(body), c, true)
	if got, err := io.ReadAll(in); err != nil || len(got) != 65<<10 || in.fields["x-amz-checksum-crc32c"] != "sOO8/Q==" {
		t.Errorf("%d bytes, %v, %v", len(got), in.fields, err)
	}
	if got, err := io.ReadAll(newChunkedReader(strings.NewReader("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:a\n\r\n\r\n"), nil, true)); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	unsigned, _, _ := strings.Cut(string(b), "x-amz-trailer-signature")
	for name, bad := range map[string]string{
		"no signature": unsigned + "\r\n", "lines without end": string(b) + strings.Repeat("\r\n", maxTrailerLines), "a line behind the signature": string(b) + "a:b\r\n",
	} {
		_, c := trailerExample("")
		if _, err := io.ReadAll(newChunkedReader(strings.NewReader(bad), c, true)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// Amazon's client for JavaScript signs the checksum of no bytes into a link for a put, and Go's the name of
// an algorithm alone: what is put later has another. One that is of bytes holds.
func TestALinkSignedBeforeThereIsABody(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	for name, test := range map[string]struct {
		query  string
		status int
	}{
		"of nothing": {"x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32&x-id=PutObject", 200}, "of hello": {"x-amz-checksum-crc32=NhCmhg%3D%3D", 200},
		"of others": {"x-amz-checksum-crc32=NhCmhw%3D%3D", 400}, "of no algorithm": {"x-amz-checksum-crc31=AAAA", 400},
	} {
		resp := w.send(w.link(http.MethodPut, "/assets/k", test.query, "hello"))
		if resp.StatusCode != test.status {
			t.Errorf("%s: %d %s", name, resp.StatusCode, resp.text)
		}
	}
	if got := get(t, c, "k"); string(got) != "hello" {
		t.Errorf("%q", got)
	}
}

// link is a presigned request with more parameters.
func (w *world) link(method, path, query, body string) *http.Request {
	w.t.Helper()
	s := &signature{accessKey: accessKey, region: "eu-west-1", at: time.Now().UTC(), signed: []string{"host"}, presigned: true}
	s.day, s.stamp = s.at.Format(dayFormat), s.at.Format(timeFormat)
	query += "&X-Amz-Algorithm=" + algorithm + "&X-Amz-Credential=" + escape(accessKey+"/"+s.scope(), false) + "&X-Amz-Date=" + s.stamp + "&X-Amz-Expires=60&X-Amz-SignedHeaders=host"
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path+"?"+query, strings.NewReader(body))
	must(w.t, err)
	r.Host = r.URL.Host
	q, _ := parseParams(query)
	key, err := w.keys.Key(w.t.Context(), api.SigningKeyRequest{AccessKey: accessKey, Date: s.day, Region: s.region})
	must(w.t, err)
	r.URL.RawQuery += "&X-Amz-Signature=" + hexed(mac(key.Key, s.toSign(algorithm, hashed(s.canonical(r, q, unsignedPayload)))))
	return r
}

// Ranges are read as RFC 9110 says; what cannot be given says how much there is.
func TestRangesOfAnyNumber(t *testing.T) {
	w := newWorld(t)
	put(t, w.bucket("assets"), "k", noise(100))
	const huge = "99999999999999999999"
	for text, want := range map[string]string{
		"Bytes=0-3": "bytes 0-3/100", "bytes=0-" + huge: "bytes 0-99/100", "bytes=-" + huge: "bytes 0-99/100", "bytes=" + huge + "-": "bytes */100", "bytes=100-": "bytes */100", "bytes=-0": "bytes */100", "bytes=+1-3": "", "bytes=1-3x": "",
	} {
		resp := w.ask(http.MethodGet, "/assets/k", "", "Range", text)
		if got := resp.Header.Get("Content-Range"); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
		if strings.Contains(want, "*") {
			resp.says(t, text, 416, "InvalidRange")
			if !strings.Contains(resp.text, "<ActualObjectSize>100</ActualObjectSize>") || resp.Header.Get("Etag") != "" {
				t.Errorf("%s: %v %s", text, resp.Header, resp.text)
			}
		}
	}
}

// A weak ETag is good for If-None-Match alone.
func TestWeakTags(t *testing.T) {
	w := newWorld(t)
	tag := *put(t, w.bucket("assets"), "k", []byte("one")).ETag
	for _, test := range []struct {
		method, header string
		status         int
	}{
		{"GET", "If-Match", 412}, {"GET", "If-None-Match", 304}, {"HEAD", "If-Match", 412}, {"HEAD", "If-None-Match", 304}, {"PUT", "If-Match", 412}, {"DELETE", "If-Match", 412},
	} {
		if resp := w.ask(test.method, "/assets/k", "", test.header, "W/"+tag); resp.StatusCode != test.status {
			t.Errorf("%s %s: %d %s", test.method, test.header, resp.StatusCode, resp.text)
		}
	}
	for header, want := range map[string]string{tag: "bytes 0-0/3", "W/" + tag: ""} {
		if got := w.ask(http.MethodGet, "/assets/k", "", "Range", "bytes=0-0", "If-Range", header).Header.Get("Content-Range"); got != want {
			t.Errorf("If-Range %s: %q", header, got)
		}
	}
}

// An answer that is no success says nothing of the object.
func TestRefusalsSayNothingOfTheObject(t *testing.T) {
	w := newWorld(t)
	_, err := w.bucket("assets").PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("k"), Body: strings.NewReader("x"), Metadata: map[string]string{"a": "b"}, ContentLanguage: str("de"), Expires: ptr(time.Unix(1e9, 0))})
	must(t, err)
	for name, header := range map[string][2]string{"a condition": {"If-Match", "x"}, "a range": {"Range", "bytes=9-"}} {
		resp := w.ask(http.MethodGet, "/assets/k", "", header[0], header[1], "X-Amz-Checksum-Mode", "ENABLED")
		for _, h := range []string{"X-Amz-Meta-A", "Etag", "Last-Modified", "Expires", "Content-Language", "X-Amz-Checksum-Crc32", "Accept-Ranges"} {
			if resp.Header.Get(h) != "" {
				t.Errorf("%s: %s is %q", name, h, resp.Header.Get(h))
			}
		}
	}
}

func TestWhatAPutMayNotSay(t *testing.T) {
	w := newWorld(t)
	w.bucket("assets")
	w.ask(http.MethodPut, "/assets/k", "x", "Content-Md5", "").says(t, "an empty digest", 400, "InvalidDigest")
	w.ask(http.MethodPut, "/assets/k?partNumber=1", "x").says(t, "a part of no upload", 400, "InvalidArgument")
	w.ask(http.MethodPut, "/assets/k", "x", "X-Amz-Checksum-Crc31", "AAAA").says(t, "a checksum that nobody knows", 400, "InvalidRequest")
	w.ask(http.MethodPut, "/assets/k", "x", "X-Amz-Sdk-Checksum-Algorithm", "CRC32").says(t, "an algorithm and no checksum", 400, "InvalidRequest")
	w.ask(http.MethodGet, "/assets/k", "").says(t, "afterwards", 404, "NoSuchKey")
}

// Documents have S3's namespace, and the URL of what was made can be used.
func TestDocumentsOfCopiesAndUploads(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	put(t, c, "from", []byte("one"))
	copied := w.ask(http.MethodPut, "/assets/k", "", "X-Amz-Copy-Source", "assets/from")
	if copied.says(t, "a copy", 200, ""); !strings.Contains(copied.text, `<CopyObjectResult xmlns="`+namespace+`">`) {
		t.Error(copied.text)
	}
	w.ask(http.MethodPut, "/assets/from", "", "X-Amz-Copy-Source", "assets/from", "X-Amz-Storage-Class", "STANDARD").says(t, "a copy to itself with a class", 200, "")
	id := *begin(t, c, sdk.CreateMultipartUploadInput{})
	part := w.ask(http.MethodPut, "/assets/k?partNumber=1&uploadId="+id, "", "X-Amz-Copy-Source", "assets/from")
	if part.says(t, "a part", 200, ""); !strings.Contains(part.text, `<CopyPartResult xmlns="`+namespace+`">`) {
		t.Error(part.text)
	}
	named := func(numbers ...int) string {
		var b strings.Builder
		for _, n := range numbers {
			fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", n, tagOf([]byte("one")))
		}
		return "<CompleteMultipartUpload>" + b.String() + "</CompleteMultipartUpload>"
	}
	w.ask(http.MethodPost, "/assets/k?uploadId="+id, named()).says(t, "no part", 400, "MalformedXML")
	w.ask(http.MethodPost, "/assets/k?uploadId="+id, named(slices.Repeat([]int{1}, api.MaxParts+1)...)).says(t, "too many parts", 400, "MalformedXML")
	w.ask(http.MethodPost, "/assets/k?uploadId="+id, named(1, 1)).says(t, "a part twice", 400, "InvalidPartOrder")
	done := w.ask(http.MethodPost, "/assets/k?uploadId="+id, named(1))
	if done.says(t, "all", 200, ""); !strings.Contains(done.text, "<Location>"+w.url+"/assets/k</Location>") {
		t.Error(done.text)
	}
}

// A page of nothing is never one of several.
func TestPagesOfNothing(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	id := *begin(t, c, sdk.CreateMultipartUploadInput{})
	_, err := part(c, t, &id, 1, []byte("x"), "")
	must(t, err)
	put(t, c, "k", nil)
	for _, path := range []string{"/assets?max-keys=0", "/assets?list-type=2&max-keys=0", "/assets?versions&max-keys=0", "/assets?uploads&max-uploads=0", "/assets/k?max-parts=0&uploadId=" + id} {
		if resp := w.ask(http.MethodGet, path, ""); !strings.Contains(resp.text, "<IsTruncated>false</IsTruncated>") {
			t.Errorf("%s: %s", path, resp.text)
		}
	}
	if resp := w.ask(http.MethodGet, "/assets?list-type=2&continuation-token=", ""); !strings.Contains(resp.text, "<ContinuationToken></ContinuationToken>") || !strings.Contains(resp.text, "<Key>k</Key>") {
		t.Error(resp.text)
	}
}

// Settings that no bucket has are told, and deleted, as S3 does of a bucket that has none.
func TestSettingsThatNoBucketHas(t *testing.T) {
	w := newWorld(t)
	w.bucket("assets")
	for _, name := range []string{"inventory", "analytics", "metrics"} {
		list := w.ask(http.MethodGet, "/assets?"+name, "")
		if list.says(t, name, 200, ""); !strings.Contains(list.text, "<IsTruncated>false</IsTruncated>") {
			t.Error(list.text)
		}
		w.ask(http.MethodGet, "/assets?id=x&"+name, "").says(t, name+" x", 404, "NoSuchConfiguration")
		w.ask(http.MethodPut, "/assets?id=x&"+name, "<x/>").says(t, name+" set", 501, "NotImplemented")
		w.ask(http.MethodGet, "/nothing?"+name, "").says(t, name+" of nothing", 404, "NoSuchBucket")
	}
	for _, name := range []string{"policy", "website", "encryption", "replication", "ownershipControls", "publicAccessBlock"} {
		w.ask(http.MethodDelete, "/assets?"+name, "").says(t, name, 204, "")
		w.ask(http.MethodDelete, "/nothing?"+name, "").says(t, name+" of nothing", 404, "NoSuchBucket")
		w.ask(http.MethodPut, "/assets?"+name, "<x/>").says(t, name+" set", 501, "NotImplemented")
	}
	const tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
	w.ask(http.MethodPut, "/assets?tagging", tags).says(t, "tags", 200, "") // what MinIO's clients take
}

// A method that a thing has not is told in S3's words, with those that it has.
func TestMethodsThatAreNotAllowed(t *testing.T) {
	w := newWorld(t)
	w.bucket("assets")
	for path, allow := range map[string]string{"/": "GET", "/assets": "DELETE, GET, HEAD, OPTIONS, PUT", "/assets/k": "DELETE, GET, HEAD, OPTIONS, PUT"} {
		resp := w.ask(http.MethodPatch, path, "")
		if resp.says(t, path, 405, "MethodNotAllowed"); resp.Header.Get("Allow") != allow {
			t.Errorf("%s: %q", path, resp.Header.Get("Allow"))
		}
	}
}

// A delete on a condition that is not built is refused, not done.
func TestDeletesOnOtherConditions(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	put(t, c, "k", []byte("x"))
	for _, o := range []types.ObjectIdentifier{{Key: str("k"), Size: ptr[int64](1)}, {Key: str("k"), LastModifiedTime: ptr(time.Now())}} {
		out, err := c.DeleteObjects(t.Context(), &sdk.DeleteObjectsInput{Bucket: str("assets"), Delete: &types.Delete{Objects: []types.ObjectIdentifier{o}}})
		must(t, err)
		if len(out.Errors) != 1 || *out.Errors[0].Code != "NotImplemented" {
			t.Errorf("%+v", out)
		}
	}
	get(t, c, "k")
}

// A link of Signature Version 2, and one that lacks something, say so.
func TestLinksThatAreNone(t *testing.T) {
	for query, code := range map[string]string{
		"AWSAccessKeyId=A&Expires=9999999999&Signature=x": "InvalidRequest", "X-Amz-Algorithm=" + algorithm: "AuthorizationQueryParametersError",
	} {
		if err := checked(httptest.NewRequest(http.MethodGet, "https://h/k?"+query, nil)); inWordsOf(err) != code {
			t.Errorf("%s: %v, want %s", query, err, code)
		}
	}
}

// slowBackend takes its time for a put.
type slowBackend struct{ Backend }

func (slowBackend) Put(context.Context, gateway.PutObject, io.Reader) (*api.Object, error) {
	time.Sleep(3 * idleTimeout)
	return &api.Object{}, nil
}

// deadlines is an answer that knows until when it may be written.
type deadlines struct {
	*httptest.ResponseRecorder
	write time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.write = t
	return nil
}

// An answer can be written however long the request took: a put of a slow client is no failure.
func TestASlowPutIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := &keyring{keys: map[string]grantedKey{}}
		keys.set(accessKey, secretKey, api.SigningKey{})
		r := httptest.NewRequest(http.MethodPut, "http://s3/assets/k", strings.NewReader("hello"))
		sign(r, unsignedPayload, time.Now())
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		New(Config{Backend: slowBackend{}, Keys: keys, Log: zerolog.Nop()}).ServeHTTP(w, r)
		if w.Code != http.StatusOK || !w.write.Equal(time.Now().Add(idleTimeout)) {
			t.Errorf("%d %s, to be written until %v at %v", w.Code, w.Body, w.write, time.Now())
		}
	})
}
