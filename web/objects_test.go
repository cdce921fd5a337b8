package web

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

const greeting = "/v1/objects/photos/a/b"

func base64Of(sum []byte) string { return base64.StdEncoding.EncodeToString(sum) }

func read[T any](t *testing.T, rec *httptest.ResponseRecorder) (v T) {
	t.Helper()
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v in %q", err, rec.Body)
	}
	return v
}

// Every key that S3 allows comes through the path unchanged, both ways.
func TestKeysSurviveThePath(t *testing.T) {
	for _, key := range []string{
		"a", "a/b", "/a", "a/", "//", "a//b", ".", "..", "../a", "a/../b", "a/./b", "%2F", "a%2Fb", "%", "%%", "%zz", "a b", "a+b", "a?b", "a#b", "a&b=c", "a:b", `a\b`, `"`, "'",
		"\x01", "a\nb", "ä", "日本語", "🐚", "{key}", "*", ":key", "a;b", "~", "photos/a/b", strings.Repeat("k", api.MaxObjectKeyBytes), strings.Repeat("%", api.MaxObjectKeyBytes),
	} {
		for name, escape := range map[string]func(string) string{"whole": url.PathEscape, "by parts": escapeParts, "as a URL": func(k string) string { return (&url.URL{Path: k}).EscapedPath() }} {
			m, s := newTest(t)
			target := "/v1/objects/photos/" + strings.TrimPrefix(escape(key), "./") // url writes ./ before a colon
			wantStatus(t, ask(s, api.RoleOperator, http.MethodPut, target, "x"+key), http.StatusCreated)
			if string(m.objects["photos/"+key].data) != "x"+key {
				t.Errorf("%s: %q is not kept under its key", name, key)
			}
			if rec := ask(s, api.RoleViewer, http.MethodGet, target, ""); rec.Body.String() != "x"+key {
				t.Errorf("%s: %q: read %q", name, key, rec.Body)
			}
			wantStatus(t, ask(s, api.RoleOperator, http.MethodDelete, target, ""), http.StatusNoContent)
			if _, there := m.objects["photos/"+key]; there {
				t.Errorf("%s: %q is not deleted", name, key)
			}
		}
	}
}

func escapeParts(key string) string {
	parts := strings.Split(key, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}

func TestKeysThatCannotBe(t *testing.T) {
	_, s := newTest(t)
	for _, key := range []string{"", "%ff", strings.Repeat("k", api.MaxObjectKeyBytes+1)} {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
			wantCode(t, ask(s, api.RoleOperator, method, "/v1/objects/photos/"+key, `{"fromBucket":"photos","fromKey":"a/b"}`), api.CodeInvalid)
		}
	}
}

func TestGetTellsOfTheObject(t *testing.T) {
	m, s := newTest(t)
	rec := ask(s, api.RoleViewer, http.MethodGet, greeting, "")
	wantStatus(t, rec, 200)
	o, sha := m.objects["photos/a/b"], sha256.Sum256([]byte("hello, world"))
	want := map[string]string{
		"Content-Type": "text/plain", "Content-Length": "12", "Accept-Ranges": "bytes", "Etag": `"` + o.ETag + `"`, "Last-Modified": "Tue, 24 Nov 2026 10:00:00 GMT",
		"X-Cloudless-Meta-Owner": "ann", "Repr-Digest": "sha-256=:" + base64Of(sha[:]) + ":", "Content-Disposition": "attachment; filename=b", "Cache-Control": "private, no-cache", "X-Cloudless-Index": "7",
	}
	head := ask(s, api.RoleViewer, http.MethodHead, greeting, "")
	for name, value := range want {
		if got := rec.Header().Get(name); got != value {
			t.Errorf("GET: %s is %q, want %q", name, got, value)
		}
		if got := head.Header().Get(name); got != value {
			t.Errorf("HEAD: %s is %q, want %q", name, got, value)
		}
	}
	if rec.Body.String() != "hello, world" || head.Code != 200 {
		t.Errorf("got %q, HEAD %d", rec.Body, head.Code)
	}
	row := read[api.Object](t, ask(s, api.RoleViewer, http.MethodGet, greeting+"?metadata=true", ""))
	if d := cmp.Diff(o.Object, row); d != "" {
		t.Error(d)
	}
	if got := ask(s, api.RoleViewer, http.MethodGet, "/v1/objects/photos/plain", "").Header().Get("Content-Type"); got != "application/octet-stream" {
		t.Errorf("without a content type: %q", got)
	}
}

func TestRangesAndConditionsOfReads(t *testing.T) {
	m, s := newTest(t)
	tag := quoted(m.objects["photos/a/b"].ETag)
	for _, c := range []struct {
		header, value string
		status        int
		body          string
	}{
		{"Range", "bytes=0-4", 206, "hello"},
		{"Range", "bytes=7-", 206, "world"},
		{"Range", "bytes=-5", 206, "world"},
		{"Range", "bytes=-12", 206, "hello, world"},
		{"Range", "bytes=-99", 206, "hello, world"},
		{"Range", "bytes=11-11", 206, "d"},
		{"Range", "bytes=7-99999999999999999999", 206, "world"},
		{"Range", "bytes=12-", 416, ""},
		{"Range", "bytes=99999999999999999999-", 416, ""},
		{"Range", "bytes=-0", 416, ""},
		{"Range", "bytes=5-4", 200, "hello, world"},
		{"Range", "bytes=a-4", 200, "hello, world"},
		{"Range", "bytes=1-+4", 200, "hello, world"},
		{"Range", "bytes=-", 200, "hello, world"},
		{"Range", "bytes=0-1,3-4", 200, "hello, world"},
		{"Range", "lines=0-4", 200, "hello, world"},
		{"If-None-Match", tag, 304, ""},
		{"If-None-Match", `"x", W/` + tag, 304, ""},
		{"If-None-Match", "*", 304, ""},
		{"If-None-Match", `"x"`, 200, "hello, world"},
		{"If-Match", tag, 200, "hello, world"},
		{"If-Match", `"x", ` + tag, 200, "hello, world"},
		{"If-Match", "*", 200, "hello, world"},
		{"If-Match", "W/" + tag, 412, ""},
		{"If-Match", `"x"`, 412, ""},
		{"If-Modified-Since", "Tue, 24 Nov 2026 10:00:00 GMT", 304, ""},
		{"If-Modified-Since", "Tue, 24 Nov 2026 09:59:59 GMT", 200, "hello, world"},
		{"If-Modified-Since", "yesterday", 200, "hello, world"},
		{"If-Unmodified-Since", "Tue, 24 Nov 2026 10:00:00 GMT", 200, "hello, world"},
		{"If-Unmodified-Since", "Tue, 24 Nov 2026 09:59:59 GMT", 412, ""},
		{"If-Unmodified-Since", "yesterday", 200, "hello, world"},
	} {
		rec := ask(s, api.RoleViewer, http.MethodGet, greeting, "", c.header, c.value)
		if rec.Code != c.status || rec.Code < 300 && rec.Body.String() != c.body {
			t.Errorf("%s: %s: %d %q, want %d %q", c.header, c.value, rec.Code, rec.Body, c.status, c.body)
		}
		if head := ask(s, api.RoleViewer, http.MethodHead, greeting, "", c.header, c.value); head.Code != c.status || head.Header().Get("Content-Range") != rec.Header().Get("Content-Range") {
			t.Errorf("%s: %s: HEAD %d, want %d", c.header, c.value, head.Code, c.status)
		}
	}
	if got := ask(s, api.RoleViewer, http.MethodGet, greeting, "", "Range", "bytes=1-3").Header().Get("Content-Range"); got != "bytes 1-3/12" {
		t.Errorf("Content-Range %q", got)
	}
	if got := ask(s, api.RoleViewer, http.MethodGet, greeting, "", "Range", "bytes=12-"); got.Header().Get("Content-Range") != "bytes */12" || refusal(t, got).Code != api.CodeInvalid {
		t.Errorf("behind the end: %q", got.Header())
	}
}

// A client that has a part of another version gets the whole of the present one.
func TestIfRange(t *testing.T) {
	m, s := newTest(t)
	tag := quoted(m.objects["photos/a/b"].ETag)
	for value, want := range map[string]int{tag: 206, `"x"`: 200, "W/" + tag: 200, "Tue, 24 Nov 2026 10:00:00 GMT": 206, "Tue, 24 Nov 2026 10:00:01 GMT": 200, "nonsense": 200} {
		if rec := ask(s, api.RoleViewer, http.MethodGet, greeting, "", "Range", "bytes=0-4", "If-Range", value); rec.Code != want {
			t.Errorf("If-Range %s: %d, want %d", value, rec.Code, want)
		}
	}
}

// Conditions come before ranges, and If-None-Match before a date.
func TestConditionsTogether(t *testing.T) {
	m, s := newTest(t)
	tag := quoted(m.objects["photos/a/b"].ETag)
	old, later := "Tue, 24 Nov 2026 09:00:00 GMT", "Tue, 24 Nov 2026 11:00:00 GMT"
	for want, headers := range map[int][]string{
		304: {"If-None-Match", tag, "Range", "bytes=99-"},
		412: {"If-Match", `"x"`, "If-None-Match", tag},
		206: {"If-None-Match", `"x"`, "If-Modified-Since", later, "If-Match", tag, "If-Unmodified-Since", old, "Range", "bytes=0-0"},
	} {
		if rec := ask(s, api.RoleViewer, http.MethodGet, greeting, "", headers...); rec.Code != want {
			t.Errorf("%v: %d, want %d", headers, rec.Code, want)
		}
	}
}

func TestAnEmptyObject(t *testing.T) {
	_, s := newTest(t)
	wantStatus(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/objects/photos/empty", ""), 201)
	rec := ask(s, api.RoleViewer, http.MethodGet, "/v1/objects/photos/empty", "")
	if rec.Code != 200 || rec.Body.Len() != 0 || rec.Header().Get("Content-Length") != "0" {
		t.Errorf("%d %q %v", rec.Code, rec.Body, rec.Header())
	}
	wantStatus(t, ask(s, api.RoleViewer, http.MethodGet, "/v1/objects/photos/empty", "", "Range", "bytes=0-"), 416)
}

func TestPutKeepsWhatTheHeadersSay(t *testing.T) {
	m, s := newTest(t)
	rec := ask(s, api.RoleOperator, http.MethodPut, "/v1/objects/photos/new", "bytes", "Content-Type", "image/png", "X-Cloudless-Meta-Camera", "Röhre 5", "X-Cloudless-Meta-a_b", "c",
		"Cache-Control", "max-age=60", "Content-Encoding", "gzip")
	wantStatus(t, rec, 201)
	o := read[api.Object](t, rec)
	want := api.Object{Bucket: "photos", Key: "new", Size: 5, ETag: o.ETag, SHA256: o.SHA256, ObjectHead: api.ObjectHead{ContentType: "image/png", CacheControl: "max-age=60", ContentEncoding: "gzip", Metadata: map[string]string{"camera": "Röhre 5", "a_b": "c"}}, Modified: modified, Index: 7}
	if d := cmp.Diff(want, o); d != "" || rec.Header().Get("ETag") != quoted(o.ETag) || string(m.objects["photos/new"].data) != "bytes" {
		t.Error(d, rec.Header())
	}
	back := ask(s, api.RoleViewer, http.MethodGet, "/v1/objects/photos/new", "").Header()
	if back.Get("Cache-Control") != "max-age=60" || back.Get("Content-Encoding") != "gzip" || back.Get("Content-Type") != "image/png" {
		t.Errorf("given back are %v", back)
	}
	for name, value := range map[string]string{"X-Cloudless-Meta-A": "tab\there", "X-Cloudless-Meta-B": "\xff"} {
		wantCode(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/objects/photos/bad", "bytes", name, value), api.CodeInvalid)
	}
}

func TestConditionsOfWrites(t *testing.T) {
	m, s := newTest(t)
	tag := m.objects["photos/plain"].ETag
	for _, c := range []struct {
		method, target, header, value string
		want                          int
	}{
		{http.MethodPut, "plain", "If-None-Match", "*", 412},
		{http.MethodPut, "none", "If-Match", "*", 412},
		{http.MethodPut, "plain", "If-Match", `"x"`, 412},
		{http.MethodPut, "plain", "If-None-Match", `"x"`, 400},
		{http.MethodPut, "plain", "If-Match", `"x", "y"`, 400},
		{http.MethodPut, "plain", "If-Match", `W/"x"`, 400},
		{http.MethodPut, "plain", "If-Match", `""`, 400},
		{http.MethodDelete, "plain", "If-Match", `"x"`, 412},
		{http.MethodDelete, "plain", "If-Match", `"x`, 412},
		{http.MethodPut, "plain", "If-Match", quoted(tag), 201},
		{http.MethodPut, "none", "If-None-Match", "*", 201},
		{http.MethodDelete, "gone", "", "", 204},
	} {
		rec := ask(s, api.RoleOperator, c.method, "/v1/objects/photos/"+c.target, "other", c.header, c.value)
		if rec.Code != c.want {
			t.Errorf("%s %s %s: %s: %d, want %d", c.method, c.target, c.header, c.value, rec.Code, c.want)
		}
		if rec.Code == 412 && refusal(t, rec).Code != api.CodeConflict {
			t.Errorf("the code is %s", refusal(t, rec).Code)
		}
	}
	wantCode(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/objects/photos/plain", "x", "If-Match", "*", "If-None-Match", "*"), api.CodeInvalid)
}

func TestPromisedSumsAreHeld(t *testing.T) {
	md, sha := md5.Sum([]byte("bytes")), sha256.Sum256([]byte("bytes"))
	for _, c := range []struct{ header, value string }{
		{"Content-MD5", base64Of(md[:])},
		{"Content-Digest", "md5=:" + base64Of(md[:]) + ":, sha-256=:" + base64Of(sha[:]) + ":"},
		{"Digest", "SHA-256=" + base64Of(sha[:])},
	} {
		m, s := newTest(t)
		wantStatus(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/objects/photos/new", "bytes", c.header, c.value), 201)
		wantCode(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/objects/photos/other", "bytez", c.header, c.value), api.CodeInvalid)
		if _, there := m.objects["photos/other"]; there {
			t.Errorf("%s: a body with another sum was stored", c.header)
		}
		wantCode(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/objects/photos/other", "bytes", c.header, strings.ReplaceAll(c.value, "=", "=!")), api.CodeInvalid)
	}
}

func TestTroubleOfThePutIsTold(t *testing.T) {
	m, s := newTest(t)
	for _, code := range []api.Code{api.CodeNoRoom, api.CodeUnavailable} {
		m.trouble = api.Errorf(code, "it does not work")
		rec := ask(s, api.RoleOperator, http.MethodPut, "/v1/objects/photos/new", "bytes")
		wantCode(t, rec, code)
		if again := rec.Header().Get("Retry-After"); (again != "") != (code == api.CodeUnavailable) {
			t.Errorf("%s: Retry-After %q", code, again)
		}
	}
}

func TestCopy(t *testing.T) {
	m, s := newTest(t)
	o := read[api.Object](t, ask(s, api.RoleOperator, http.MethodPost, "/v1/objects/photos/copy", `{"fromBucket":"photos","fromKey":"a/b"}`))
	if o.ContentType != "text/plain" || o.Metadata["owner"] != "ann" || string(m.objects["photos/copy"].data) != "hello, world" {
		t.Errorf("%+v", o)
	}
	o = read[api.Object](t, ask(s, api.RoleOperator, http.MethodPost, "/v1/objects/photos/copy", `{"fromBucket":"photos","fromKey":"a/b","head":{"contentType":"text/html"}}`))
	if o.ContentType != "text/html" || o.Metadata != nil {
		t.Errorf("with a head of its own: %+v", o)
	}
	wantCode(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/objects/photos/copy", `{"fromBucket":"photos","fromKey":"a/b","head":{"metadata":{"A":"b"}}}`), api.CodeInvalid)
	wantCode(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/objects/photos/copy", `{"fromBucket":"photos","fromKey":"none"}`), api.CodeNotFound)
}

func TestListOfObjects(t *testing.T) {
	_, s := newTest(t)
	keys := func(query string) (out []string) {
		l := read[api.ObjectList](t, ask(s, api.RoleViewer, http.MethodGet, "/v1/buckets/photos/objects?"+query, ""))
		for _, o := range l.Items {
			out = append(out, o.Key)
		}
		return append(out, l.Cursor)
	}
	for query, want := range map[string][]string{
		"": {"a/b", "plain", ""}, "limit=1": {"a/b", "a/b"}, "limit=1&cursor=a%2Fb": {"plain", ""}, "after=a&prefix=a": {"a/b", ""}, "prefix=z": {""}, "after=b&cursor=a": {"plain", ""},
	} {
		if d := cmp.Diff(want, keys(query)); d != "" {
			t.Errorf("%q: %s", query, d)
		}
	}
	if body := ask(s, api.RoleViewer, http.MethodGet, "/v1/buckets/photos/objects?prefix=z", "").Body.String(); !strings.Contains(body, `"items":[]`) {
		t.Errorf("an empty list is %s", body)
	}
}
