package s3

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/gateway"
)

// The bodies of the examples in Amazon's documents: 64 KiB and 1 KiB of the letter a, with their signatures.
func exampleChunks(seed, one, two, end, trailer string) (io.Reader, *chain) {
	var b strings.Builder
	for _, c := range []struct {
		n   int
		sum string
	}{{64 << 10, one}, {1 << 10, two}} {
		fmt.Fprintf(&b, "%x;chunk-signature=%s\r\n%s\r\n", c.n, c.sum, strings.Repeat("a", c.n))
	}
	fmt.Fprintf(&b, "0;chunk-signature=%s\r\n%s\r\n", end, trailer)
	s := &signature{stamp: exampleStamp, day: "20130524", region: "us-east-1"}
	return strings.NewReader(b.String()), &chain{s, exampleKey(), seed}
}

func plainExample() (io.Reader, *chain) {
	return exampleChunks("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9", "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
		"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9", "")
}

func trailerExample(sum string) (io.Reader, *chain) {
	return exampleChunks("106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e", "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
		"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7", "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
		"x-amz-checksum-crc32c:"+sum+"\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n")
}

func TestTheChunkedExamplesOfAmazonAreTaken(t *testing.T) {
	want := strings.Repeat("a", 65<<10)
	r, c := plainExample()
	if got, err := io.ReadAll(newChunkedReader(r, c, false)); err != nil || string(got) != want {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	r, c = trailerExample("sOO8/Q==")
	in := newChunkedReader(iotest.OneByteReader(r), c, true)
	if got, err := io.ReadAll(in); err != nil || string(got) != want || in.fields["x-amz-checksum-crc32c"] != "sOO8/Q==" {
		t.Errorf("%d bytes, %v, %v", len(got), in.fields, err)
	}
	r, c = trailerExample("sOO8/A==")
	if _, err := io.ReadAll(newChunkedReader(r, c, true)); inWordsOf(err) != "SignatureDoesNotMatch" {
		t.Errorf("a changed trailer: %v", err)
	}
}

// Whatever byte of a signed body is changed, or wherever it ends, it is never taken for whole.
func TestAChangedChunkIsRefused(t *testing.T) {
	r, _ := plainExample()
	whole, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		b := bytes.Clone(whole)
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "cut") {
			b = b[:at]
		} else {
			b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
		}
		_, c := plainExample()
		got, err := io.ReadAll(newChunkedReader(bytes.NewReader(b), c, false))
		if err == nil && (string(got) != strings.Repeat("a", 65<<10) || len(got) == 0) {
			t.Fatalf("%d bytes were taken", len(got))
		}
	})
}

func TestMalformedChunksAreRefused(t *testing.T) {
	for body, code := range map[string]string{
		"5\r\nhello\r\n0\r\n\r\n": "", "5\r\nhello\r\n0\r\n": "", "5\nhello\n0\n\n": "", "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n": "",
		"5;ext=1\r\nhello\r\n0\r\n\r\n": "", "": "IncompleteBody", "5\r\nhel": "IncompleteBody", "5\r\nhello": "IncompleteBody", "5\r\nhello\r\n": "IncompleteBody", "4\r\nhello\r\n0\r\n\r\n": "InvalidRequest",
		"x\r\nhello\r\n0\r\n\r\n": "InvalidRequest", "-5\r\nhello\r\n0\r\n\r\n": "InvalidRequest", "ffffffffffffffffff\r\n": "InvalidRequest", "8000000000000000\r\n": "InvalidRequest",
		"5;chunk-signature=00\r\nhello\r\n0\r\n\r\n": "InvalidRequest", "5\r\nhello\r\n0\r\n\r\nmore": "IncompleteBody", "5\r\nhello\r\n0\r\n\r\nmore\r\n": "MalformedTrailerError", "0\r\na:b\n\r\n\r\n": "", "0\r\nno trailer\r\n\r\n": "MalformedTrailerError",
		strings.Repeat("0", maxChunkLine) + "\r\n\r\n": "InvalidRequest", strings.Repeat("0", maxChunkLine-1) + "\r\n\r\n": "", "0\r\n" + strings.Repeat("a:b\r\n", maxTrailerLines): "",
		"0\r\n" + strings.Repeat("a:b\r\n", maxTrailerLines+1): "MalformedTrailerError", "0\r\na:" + strings.Repeat("b", maxTrailerLine-3) + "\r\n\r\n": "", "0\r\na:" + strings.Repeat("b", maxTrailerLine) + "\r\n\r\n": "InvalidRequest",
	} {
		_, err := io.ReadAll(newChunkedReader(strings.NewReader(body), nil, true))
		if inWordsOf(err) != code {
			t.Errorf("%.60q: %v, want %q", body, err, code)
		}
	}
}

// FuzzChunks: whatever comes, reading ends, and no more comes out than went in.
func FuzzChunks(f *testing.F) {
	for _, seed := range []string{"5\r\nhello\r\n0\r\n\r\n", "0\r\na:b\r\n\r\n", "5;chunk-signature=00\r\nhello\r\n", "ffffffff\r\nx"} {
		f.Add([]byte(seed), false, true)
		f.Add([]byte(seed), true, true)
	}
	f.Fuzz(func(t *testing.T, body []byte, signed, trailer bool) {
		var c *chain
		if signed {
			_, c = plainExample()
		}
		got, err := io.ReadAll(newChunkedReader(bytes.NewReader(body), c, trailer))
		if len(got) > len(body) || err == nil && signed && len(got) > 0 {
			t.Fatalf("%d bytes of %d, %v", len(got), len(body), err)
		}
	})
}

// FuzzSignature: what was parsed can be written again, and no input breaks the parser.
func FuzzSignature(f *testing.F) {
	for _, r := range examples() {
		f.Add(r.Header.Get("Authorization"), r.URL.RawQuery)
	}
	f.Fuzz(func(t *testing.T, auth, query string) {
		q, ok := parseParams(query)
		if !ok {
			return
		}
		again, ok := parseParams(q.canonical())
		if !ok || again.canonical() != q.canonical() {
			t.Fatalf("%q is %q, then %q", query, q.canonical(), again.canonical())
		}
		r := &http.Request{Method: "GET", Header: http.Header{"Authorization": {auth}, "X-Amz-Date": {exampleStamp}}}
		if s, err := parseSignature(r, q); err == nil && (len(s.sum) != 32 || len(s.signed) == 0 || s.at.IsZero()) {
			t.Fatalf("%+v", s)
		}
	})
}

// The bodies as clients send them: with a length that is wrong, a digest that is wrong, in chunks or not.
func TestBodies(t *testing.T) {
	w := newWorld(t)
	c := w.bucket("assets")
	crc := func(s string) string {
		h := crc32.NewIEEE()
		h.Write([]byte(s))
		return b64(h.Sum(nil))
	}
	chunked := func(s, sum string) string {
		return fmt.Sprintf("%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n", len(s), s, sum)
	}
	for name, test := range map[string]struct {
		payload, body string
		headers       map[string]string
		code          string
	}{
		"plain": {unsignedPayload, "hello", nil, ""}, "signed": {hashed("hello"), "hello", nil, ""}, "another body": {hashed("hellO"), "hello", nil, "XAmzContentSHA256Mismatch"},
		"in chunks":            {unsignedTrailer, chunked("hello", crc("hello")), map[string]string{decodedLength: "5", trailerHeader: "x-amz-checksum-crc32"}, ""},
		"a wrong trailer":      {unsignedTrailer, chunked("hello", crc("hellO")), map[string]string{decodedLength: "5", trailerHeader: "x-amz-checksum-crc32"}, "BadDigest"},
		"no trailer":           {unsignedTrailer, "5\r\nhello\r\n0\r\n\r\n", map[string]string{decodedLength: "5", trailerHeader: "x-amz-checksum-crc32"}, "BadDigest"},
		"longer than it says":  {unsignedTrailer, chunked("hello", crc("hello")), map[string]string{decodedLength: "4", trailerHeader: "x-amz-checksum-crc32"}, "IncompleteBody"},
		"shorter than it says": {unsignedTrailer, chunked("hello", crc("hello")), map[string]string{decodedLength: "6", trailerHeader: "x-amz-checksum-crc32"}, "IncompleteBody"},
		"no length":            {unsignedTrailer, chunked("hello", crc("hello")), nil, "MissingContentLength"},
		"two checksums":        {unsignedPayload, "hello", map[string]string{"X-Amz-Checksum-Crc32": crc("hello"), "X-Amz-Checksum-Crc32c": "AAAAAA=="}, "InvalidRequest"},
		"no checksum":          {unsignedPayload, "hello", map[string]string{"X-Amz-Checksum-Crc32": "AAAA"}, "InvalidRequest"},
		"another trailer":      {unsignedTrailer, chunked("hello", crc("hello")), map[string]string{decodedLength: "5", trailerHeader: "x-amz-meta-a"}, "InvalidRequest"},
		"a trailer of nothing": {unsignedPayload, "hello", map[string]string{trailerHeader: "x-amz-checksum-crc32"}, "InvalidRequest"},
		"no MD5":               {unsignedPayload, "hello", map[string]string{"Content-Md5": "AAAA"}, "InvalidDigest"},
		"no payload hash":      {"", "hello", nil, "InvalidRequest"}, "another hash": {"abc", "hello", nil, "InvalidArgument"},
		"elliptic":        {"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "hello", nil, "NotImplemented"},
		"more than 5 GiB": {unsignedTrailer, "", map[string]string{decodedLength: strconv.FormatInt(MaxPutBytes+1, 10)}, "EntityTooLarge"},
		"5 GiB":           {unsignedTrailer, "", map[string]string{decodedLength: strconv.FormatInt(MaxPutBytes, 10)}, "IncompleteBody"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, w.url+"/assets/"+strings.ReplaceAll(name, " ", "-"), strings.NewReader(test.body))
		must(t, err)
		for k, v := range test.headers {
			r.Header.Set(k, v)
		}
		sign(r, test.payload, time.Now())
		resp := w.send(r)
		if test.code != "" && !strings.Contains(resp.text, "<Code>"+test.code+"</Code>") || test.code == "" && resp.StatusCode != 200 {
			t.Errorf("%s: %d %s, want %q", name, resp.StatusCode, resp.text, test.code)
		}
		_, err = c.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: str("assets"), Key: str(strings.ReplaceAll(name, " ", "-"))})
		if (err == nil) != (test.code == "") {
			t.Errorf("%s: afterwards %v", name, err)
		}
	}
}

// A client that waits to be told to go on is told before the store asks for the first byte, also when there
// is none to come.
func TestAClientIsToldToGoOnAtOnce(t *testing.T) {
	w := newWorld(t)
	w.bucket("assets")
	for _, text := range []string{"hello", ""} {
		busy := make(chan struct{})
		server := httptest.NewServer(New(Config{Backend: busyBackend{w.gateway, busy}, Keys: w.keys, Log: zerolog.Nop()}))
		told := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() {
			told = true
			close(busy) // only now does the store begin
		}})
		r, err := http.NewRequestWithContext(ctx, http.MethodPut, server.URL+"/assets/k", strings.NewReader(text))
		must(t, err)
		r.Header.Set("Expect", "100-continue")
		sign(r, unsignedPayload, time.Now())
		client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Hour}}
		resp, err := client.Do(r)
		must(t, err)
		resp.Body.Close()
		if !told || resp.StatusCode != 200 {
			t.Errorf("%d bytes: told %v, %d", len(text), told, resp.StatusCode)
		}
		client.CloseIdleConnections()
		server.Close()
	}
}

// busyBackend reads nothing before it is free.
type busyBackend struct {
	Backend
	free chan struct{}
}

func (b busyBackend) Put(ctx context.Context, p gateway.PutObject, r io.Reader) (*api.Object, error) {
	<-b.free
	return b.Backend.Put(ctx, p, r)
}
