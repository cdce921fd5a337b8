package s3

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/cloudless/cloudless/api"
)

// The keys and time of the examples in Amazon's documents of Signature Version 4 for S3.
const (
	exampleAccess = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	exampleStamp  = "20130524T000000Z"
	exampleScope  = exampleAccess + "/20130524/us-east-1/s3/aws4_request"
)

func exampleKey() []byte {
	key := []byte("AWS4" + exampleSecret)
	for _, part := range []string{"20130524", "us-east-1", "s3", "aws4_request"} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	return key
}

// example is a signed request of the documents.
func example(method, url, signed, sum string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, url, nil)
	r.Header.Set("X-Amz-Date", exampleStamp)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if sum != "" {
		r.Header.Set("Authorization", algorithm+" Credential="+exampleScope+",SignedHeaders="+signed+",Signature="+sum)
	}
	return r
}

func checked(r *http.Request) error {
	q, _ := parseParams(r.URL.RawQuery)
	s, err := parseSignature(r, q)
	if err != nil {
		return err
	}
	payload, err := payloadOf(r.Header, s.presigned)
	if err != nil {
		return err
	}
	return s.verify(r, q, payload, exampleKey())
}

func examples() map[string]*http.Request {
	const host = "https://examplebucket.s3.amazonaws.com"
	return map[string]*http.Request{
		"GET object": example("GET", host+"/test.txt", "host;range;x-amz-content-sha256;x-amz-date",
			"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41", "Range", "bytes=0-9", contentSHA256, emptyPayload),
		"PUT object": example("PUT", host+"/test$file.text", "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
			"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd", "Date", "Fri, 24 May 2013 00:00:00 GMT",
			"X-Amz-Storage-Class", "REDUCED_REDUNDANCY", contentSHA256, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"),
		"GET lifecycle": example("GET", host+"/?lifecycle", "host;x-amz-content-sha256;x-amz-date",
			"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543", contentSHA256, emptyPayload),
		"list objects": example("GET", host+"/?max-keys=2&prefix=J", "host;x-amz-content-sha256;x-amz-date",
			"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7", contentSHA256, emptyPayload),
		"presigned": example("GET", host+"/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="+strings.ReplaceAll(exampleScope, "/", "%2F")+
			"&X-Amz-Date="+exampleStamp+"&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404", "", ""),
	}
}

func TestTheExamplesOfAmazonAreTaken(t *testing.T) {
	for name, r := range examples() {
		if err := checked(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is changed of a signed request, it is refused.
func TestAChangedRequestIsRefused(t *testing.T) {
	for what, change := range map[string]func(*http.Request){
		"method": func(r *http.Request) { r.Method = "DELETE" }, "path": func(r *http.Request) { r.URL.Path += "x" }, "host": func(r *http.Request) { r.Host = "other.s3.amazonaws.com" },
		"query": func(r *http.Request) { r.URL.RawQuery += "&acl" },
	} {
		for name, r := range examples() {
			if change(r); inWordsOf(checked(r)) != "SignatureDoesNotMatch" {
				t.Errorf("%s of %s changed: %v", what, name, checked(r))
			}
		}
	}
	for name, header := range map[string]string{"GET object": "Range", "PUT object": "X-Amz-Storage-Class", "GET lifecycle": contentSHA256} {
		r := examples()[name]
		if r.Header.Set(header, unsignedPayload); inWordsOf(checked(r)) != "SignatureDoesNotMatch" {
			t.Errorf("%s of %s changed: %v", header, name, checked(r))
		}
	}
}

func inWordsOf(err error) string {
	if err == nil {
		return ""
	}
	return inWords(err).Code
}

func TestMalformedSignaturesAreRefused(t *testing.T) {
	const sum = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
	for auth, code := range map[string]string{
		"": "AccessDenied", "AWS AKIA:sig": "InvalidRequest", "Bearer cl_x_y": "InvalidRequest", algorithm: "AuthorizationHeaderMalformed",
		algorithm + " Credential=" + exampleScope + ",SignedHeaders=host,Signature=zz":                                           "AuthorizationHeaderMalformed",
		algorithm + " Credential=" + exampleScope + ",SignedHeaders=range,Signature=" + sum:                                      "AuthorizationHeaderMalformed",
		algorithm + " Credential=" + exampleScope + ",SignedHeaders=range;host,Signature=" + sum:                                 "AuthorizationHeaderMalformed",
		algorithm + " Credential=A/20130524/us-east-1/ec2/aws4_request,SignedHeaders=host,Signature=" + sum:                      "AuthorizationHeaderMalformed",
		algorithm + " Credential=A/20130524/" + strings.Repeat("r", 65) + "/s3/aws4_request,SignedHeaders=host,Signature=" + sum: "AuthorizationHeaderMalformed",
	} {
		r := example("GET", "https://h/k", "", "", contentSHA256, emptyPayload)
		if r.Header.Set("Authorization", auth); auth == "" {
			r.Header.Del("Authorization")
		}
		if err := checked(r); inWordsOf(err) != code {
			t.Errorf("%.60q: %v, want %s", auth, err, code)
		}
	}
	const query = "X-Amz-Credential=" + exampleScope + "&X-Amz-SignedHeaders=host&X-Amz-Signature=" + sum
	for q, code := range map[string]string{
		"X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256&" + query: "AuthorizationQueryParametersError", "X-Amz-Algorithm=" + algorithm + "&" + query: "AuthorizationQueryParametersError",
		"X-Amz-Algorithm=" + algorithm + "&X-Amz-Date=x&X-Amz-Expires=5&" + query:                         "AuthorizationQueryParametersError",
		"X-Amz-Algorithm=" + algorithm + "&X-Amz-Date=" + exampleStamp + "&X-Amz-Expires=0&" + query:      "AuthorizationQueryParametersError",
		"X-Amz-Algorithm=" + algorithm + "&X-Amz-Date=" + exampleStamp + "&X-Amz-Expires=604801&" + query: "AuthorizationQueryParametersError",
		"X-Amz-Algorithm=" + algorithm + "&X-Amz-Date=" + exampleStamp + "&X-Amz-Expires=604800&" + query: "SignatureDoesNotMatch",
	} {
		if err := checked(httptest.NewRequest("GET", "https://h/k?"+q, nil)); inWordsOf(err) != code {
			t.Errorf("%s: %v, want %s", q, err, code)
		}
	}
}

// A clock may be a quarter of an hour off; a presigned request counts until it says.
func TestTimesOfSignatures(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	header := &signature{day: "20260301", at: at}
	link := &signature{day: "20260301", at: at, presigned: true, expires: time.Hour}
	for name, test := range map[string]struct {
		s    *signature
		off  time.Duration
		code string
	}{
		"on time": {header, 0, ""}, "late": {header, maxSkew, ""}, "too late": {header, maxSkew + 1, "RequestTimeTooSkewed"}, "early": {header, -maxSkew, ""}, "too early": {header, -maxSkew - 1, "RequestTimeTooSkewed"},
		"a link": {link, time.Hour, ""}, "an expired link": {link, time.Hour + 1, "AccessDenied"}, "an early link": {link, -maxSkew, ""}, "a link of later": {link, -maxSkew - 1, "RequestTimeTooSkewed"},
		"another day": {&signature{day: "20260302", at: at}, 0, "AuthorizationHeaderMalformed"},
	} {
		if err := test.s.current(at.Add(test.off)); inWordsOf(err) != test.code {
			t.Errorf("%s: %v, want %q", name, err, test.code)
		}
	}
}

// What nobody has signed could be from anybody.
func TestHeadersOfAmazonMustBeSigned(t *testing.T) {
	w := newWorld(t)
	w.bucket("assets")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, w.url+"/assets/k", strings.NewReader("x"))
	must(t, err)
	sign(r, unsignedPayload, time.Now())
	r.Header.Set("X-Amz-Meta-Owner", "eve")
	if resp := w.send(r); resp.StatusCode != http.StatusForbidden {
		t.Errorf("%d", resp.StatusCode)
	}
}

// send gives the answer and its body as text.
func (w *world) send(r *http.Request) answerText {
	w.t.Helper()
	resp, err := http.DefaultClient.Do(r)
	must(w.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(w.t, err)
	return answerText{resp, string(data)}
}

type answerText struct {
	*http.Response
	text string
}

// Keys that are wrong, unknown, expired, of another bucket or for reading only.
func TestKeys(t *testing.T) {
	w := newWorld(t)
	w.bucket("assets")
	past := time.Now().Add(-time.Second)
	w.keys.set("WRONG", "another", api.SigningKey{})
	w.keys.set("EXPIRED", secretKey, api.SigningKey{Expires: &past})
	w.keys.set("READER", secretKey, api.SigningKey{ReadOnly: true})
	w.keys.set("OTHER", secretKey, api.SigningKey{Bucket: "other"})
	w.keys.set("MINE", secretKey, api.SigningKey{Bucket: "assets"})
	for access, want := range map[string][3]string{ // of put, get and list of buckets
		"WRONG": {"SignatureDoesNotMatch", "SignatureDoesNotMatch", "SignatureDoesNotMatch"}, "NONE": {"InvalidAccessKeyId", "InvalidAccessKeyId", "InvalidAccessKeyId"},
		"EXPIRED": {"InvalidAccessKeyId", "InvalidAccessKeyId", "InvalidAccessKeyId"}, "READER": {"AccessDenied", "NoSuchKey", ""}, "OTHER": {"AccessDenied", "AccessDenied", ""}, "MINE": {"", "NoSuchKey", ""},
	} {
		c := w.client(func(o *sdk.Options) { o.Credentials = static(access) })
		_, err := c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: str("k")})
		wants(t, err, want[0])
		_, err = c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: str("none")})
		wants(t, err, want[1])
		list, err := c.ListBuckets(t.Context(), &sdk.ListBucketsInput{})
		wants(t, err, want[2])
		if access == "OTHER" && len(list.Buckets) != 0 || access == "MINE" && len(list.Buckets) != 1 {
			t.Errorf("%s is shown %+v", access, list.Buckets)
		}
	}
	c := w.client(func(o *sdk.Options) { o.Credentials = static("MINE") })
	_, err := c.CopyObject(t.Context(), &sdk.CopyObjectInput{Bucket: str("assets"), Key: str("k"), CopySource: str("other/k")})
	wants(t, err, "AccessDenied")
}

type static string

func (s static) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: string(s), SecretAccessKey: secretKey}, nil
}

// A link that was signed beforehand reads and writes with no other header.
func TestPresignedLinks(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	links := sdk.NewPresignClient(c)
	for _, key := range oddKeys {
		if key == "." || key == ".." || strings.Contains(key, "../") || strings.HasPrefix(key, "./") {
			continue // net/http's client would change the path
		}
		up, err := links.PresignPutObject(t.Context(), &sdk.PutObjectInput{Bucket: str("assets"), Key: &key, Metadata: map[string]string{"owner": "ann"}})
		must(t, err)
		r, err := http.NewRequestWithContext(t.Context(), up.Method, up.URL, strings.NewReader("hello"))
		must(t, err)
		for name, v := range up.SignedHeader {
			r.Header[name] = v
		}
		if resp := w.send(r); resp.StatusCode != 200 {
			t.Fatalf("%q: %d %s", key, resp.StatusCode, resp.text)
		}
		down, err := links.PresignGetObject(t.Context(), &sdk.GetObjectInput{Bucket: str("assets"), Key: &key, ResponseContentType: str("a/b")})
		must(t, err)
		r, err = http.NewRequestWithContext(t.Context(), down.Method, down.URL, nil)
		must(t, err)
		if resp := w.send(r); resp.text != "hello" || resp.Header.Get("Content-Type") != "a/b" || resp.Header.Get("X-Amz-Meta-Owner") != "ann" {
			t.Errorf("%q: %d %s %v", key, resp.StatusCode, resp.text, resp.Header)
		}
		r.Method = http.MethodDelete
		if resp := w.send(r); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%q: a link for reading deletes: %d", key, resp.StatusCode)
		}
	}
}

// A bucket has a host name of its own under each domain.
func TestVirtualHosts(t *testing.T) {
	w := newWorld(t)
	w.bucket("assets")
	c := w.client(func(o *sdk.Options) {
		o.UsePathStyle, o.BaseEndpoint = false, aws.String(strings.Replace(w.url, "127.0.0.1", "localhost", 1))
		o.HTTPClient = &http.Client{Transport: toServer{w.url}}
	})
	for _, key := range oddKeys {
		put(t, c, key, []byte(key))
		if got := get(t, c, key); string(got) != key {
			t.Errorf("%q came back as %q", key, got)
		}
	}
	for host, want := range map[string]string{
		"assets.localhost": "assets", "assets.localhost:7790": "assets", "ASSETS.localhost.": "assets", "a.b.localhost": "a.b", "localhost": "", "localhost:1": "", "127.0.0.1:7790": "", "s3.localhost": "",
		"bucket.s3.localhost": "bucket", "example.org": "", "": "", "[::1]:7790": "",
	} {
		if got := bucketOfHost(host, byLength([]string{"localhost", "S3.Localhost"})); got != want {
			t.Errorf("%q is bucket %q, want %q", host, got, want)
		}
	}
}

// toServer sends every request to one address, whatever its host.
type toServer struct{ url string }

func (s toServer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Host, r.URL.Host = r.URL.Host, strings.TrimPrefix(s.url, "http://")
	return http.DefaultTransport.RoundTrip(r)
}

func TestRequestsThatAreNoneOfS3(t *testing.T) {
	w := newWorld(t)
	w.bucket("assets")
	for request, want := range map[string]int{
		"POST /assets": 501, "PATCH /assets/k": 405, "GET /assets?torrent": 501, "GET /assets/k?torrent": 501, "PUT /": 405, "GET /assets?policy": 404, "GET //k": 400, "GET /assets?x=%zz": 400,
	} {
		method, path, _ := strings.Cut(request, " ")
		r := httptest.NewRequest(method, w.url+"/", nil)
		r.RequestURI = ""
		r.URL.Path, r.URL.RawQuery, _ = strings.Cut(path, "?")
		sign(r, emptyPayload, time.Now())
		if resp := w.send(r); resp.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s", request, resp.StatusCode, want, resp.text)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/assets/k", nil)
	must(t, err)
	resp := w.send(r)
	if resp.StatusCode != http.StatusForbidden || !strings.Contains(resp.text, "<Code>AccessDenied</Code>") || !strings.Contains(resp.text, "<RequestId>"+resp.Header.Get("X-Amz-Request-Id")) {
		t.Errorf("unsigned: %d %s", resp.StatusCode, resp.text)
	}
}
