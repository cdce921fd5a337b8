package web

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// storageSample is a good request for a route of the object store.
func storageSample(r route, target string) (string, string) {
	bodies := map[string]string{
		"POST /v1/buckets":                   `{"name":"new-one","replicas":2,"quota":"1Gi"}`,
		"PUT /v1/buckets/:bucket":            `{"class":"cold"}`,
		"POST /v1/objects/:bucket/*":         `{"fromBucket":"photos","fromKey":"a/b"}`,
		"PUT /v1/objects/:bucket/*":          "bytes",
		"POST /v1/uploads":                   `{"bucket":"photos"}`,
		"POST /v1/uploads/:id/missing":       `{"chunks":["` + digest + `"]}`,
		"PUT /v1/uploads/:id/chunks/:digest": "bytes",
		"POST /v1/uploads/:id/commit":        commitBody("photos", "fresh", nil),
		"POST /v1/storage:scrub":             `{"node":"one"}`,
		"POST /v1/storage:restore":           "a backup",
	}
	switch {
	case r.path == "/v1/objects/:bucket/*" && r.method != http.MethodPut:
		target = "/v1/objects/photos/plain"
	case r.method == http.MethodDelete && strings.HasSuffix(r.path, "/uploads/:id"):
		target += "?key=a%2Fb"
	case strings.HasSuffix(r.path, "/chunks/:digest"):
		target += "?bucket=photos"
	}
	return target, bodies[label(r)]
}

// commitBody ends an upload of these chunks.
func commitBody(bucket, key string, chunks []string) string {
	m := &split.Manifest{}
	for _, c := range chunks {
		m.Chunks = append(m.Chunks, split.Chunk{Digest: sha256.Sum256([]byte(c)), Bytes: len(c)})
	}
	body, _ := json.Marshal(api.UploadCommit{ObjectPut: api.ObjectPut{Bucket: bucket, Key: key, Size: m.Size()}, Manifest: m.Encode()})
	return string(body)
}

func TestBucketSettings(t *testing.T) {
	m, s := newTest(t)
	wantStatus(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/buckets/photos", `{"replicas":5,"quota":"1Gi"}`), 200)
	wantStatus(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/buckets/photos", `{"class":"cold"}`), 200)
	if b := m.buckets["photos"]; b.Replicas != 5 || b.Quota != 1<<30 || b.Class != api.ClassCold {
		t.Errorf("what the body leaves out did not stay: %+v", b)
	}
	whole := ask(s, api.RoleViewer, http.MethodGet, "/v1/buckets/photos", "").Body.String()
	wantStatus(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/buckets/photos", strings.Replace(whole, `"replicas":5`, `"replicas":2`, 1)), 200)
	if m.buckets["photos"].Replicas != 2 {
		t.Error("a bucket as it was read cannot be sent back")
	}
	wantStatus(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/buckets/new-one", `{"replicas":2}`), 201)
	wantCode(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/buckets/photos", `{"name":"other"}`), api.CodeInvalid)
	wantCode(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/buckets/photos", `{"replicas":3}`, "If-Match", "3"), api.CodeConflict)
	wantCode(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/buckets", `{"name":"photos"}`), api.CodeConflict)
	wantCode(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/buckets", `{"nmae":"photos"}`), api.CodeInvalid)
	wantCode(t, ask(s, api.RoleOperator, http.MethodDelete, "/v1/buckets/photos", "", "If-Match", "3"), api.CodeConflict)
	wantStatus(t, ask(s, api.RoleOperator, http.MethodDelete, "/v1/buckets/photos", ""), 204)
}

// A second upload of the same chunks sends none of them.
func TestAnUploadInChunks(t *testing.T) {
	m, s := newTest(t)
	chunks := []string{"first", "second"}
	var names []string
	for _, c := range chunks {
		names = append(names, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(c))))
	}
	asked, _ := json.Marshal(api.MissingRequest{Chunks: names})
	for round := range 2 {
		u := read[api.UploadSession](t, ask(s, api.RoleOperator, http.MethodPost, "/v1/uploads", `{"bucket":"photos"}`))
		missing := read[api.MissingAnswer](t, ask(s, api.RoleOperator, http.MethodPost, "/v1/uploads/"+u.ID+"/missing", string(asked))).Missing
		if len(missing) != 2-2*round {
			t.Fatalf("round %d: missing are %v", round, missing)
		}
		for i, name := range missing {
			wantStatus(t, ask(s, api.RoleOperator, http.MethodPut, "/v1/uploads/"+u.ID+"/chunks/"+name+"?bucket=photos", chunks[i]), 204)
		}
		wantStatus(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/uploads/"+u.ID+"/commit", commitBody("photos", "both", chunks)), 201)
	}
	if string(m.objects["photos/both"].data) != "firstsecond" {
		t.Errorf("the object is %q", m.objects["photos/both"].data)
	}
}

func TestLimitsOfUploads(t *testing.T) {
	_, s := newTest(t)
	ask2 := func(n int) *httptest.ResponseRecorder {
		body, _ := json.Marshal(api.MissingRequest{Chunks: strings.Split(strings.Repeat(digest+" ", n-1)+digest, " ")})
		return ask(s, api.RoleOperator, http.MethodPost, "/v1/uploads/s-1/missing", string(body))
	}
	wantStatus(t, ask2(meta.MaxAsked), 200)
	wantCode(t, ask2(meta.MaxAsked+1), api.CodeTooLarge)
	wantCode(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/uploads/s-1/missing", `{"chunks":["md5:abc"]}`), api.CodeInvalid)
	chunk := func(n int, length int64) *httptest.ResponseRecorder {
		req := httptest.NewRequest(http.MethodPut, "/v1/uploads/s-1/chunks/"+digest+"?bucket=photos", io.LimitReader(zeroes{}, int64(n)))
		req.ContentLength = length
		req.Header.Set("Authorization", "Bearer operator")
		rec := httptest.NewRecorder()
		s.echo.ServeHTTP(rec, req)
		return rec
	}
	wantStatus(t, chunk(split.MaxChunkBytes, split.MaxChunkBytes), 204)
	wantCode(t, chunk(split.MaxChunkBytes+1, split.MaxChunkBytes+1), api.CodeTooLarge)
	wantCode(t, chunk(split.MaxChunkBytes+1, -1), api.CodeTooLarge)
	for _, bad := range []string{
		`{"bucket":"photos","key":"k","size":0,"manifest":"AAAA"}`,
		strings.Replace(commitBody("photos", "k", nil), `"key":"k"`, `"key":""`, 1),
		strings.Replace(commitBody("photos", "k", nil), `"size"`, `"metadata":{"A":"b"},"size"`, 1),
	} {
		wantCode(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/uploads/s-1/commit", bad), api.CodeInvalid)
	}
	long := commitBody("photos", "k", nil)
	long += strings.Repeat(" ", api.MaxCommitBytes-len(long))
	wantStatus(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/uploads/s-1/commit", long), 201)
	wantCode(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/uploads/s-1/commit", long+" "), api.CodeTooLarge)
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestWorkOfTheStoreIsAskedFor(t *testing.T) {
	m, s := newTest(t)
	for _, c := range []struct{ path, body string }{{"scrub", `{"node":"one"}`}, {"scrub", ""}, {"repair", ""}, {"collect", ""}, {"collect", `{"anyway":true}`}} {
		wantStatus(t, ask(s, api.RoleOperator, http.MethodPost, "/v1/storage:"+c.path, c.body), 204)
	}
	if got := strings.Join(m.asked, ", "); got != "scrub one, scrub , repair, collect, collect anyway" {
		t.Error(got)
	}
	if got := ask(s, api.RoleOperator, http.MethodGet, "/v1/storage:backup", ""); got.Body.String() != "a backup" {
		t.Errorf("the backup is %q", got.Body)
	}
	wantStatus(t, ask(s, api.RoleAdmin, http.MethodPost, "/v1/storage:restore", "a backup"), 204)
	if string(m.restored) != "a backup" {
		t.Errorf("restored %q", m.restored)
	}
}

// On a real connection: a put whose client goes away in the middle stores nothing, and a read that breaks
// off does not look like one that ended.
func TestWhatBreaksOff(t *testing.T) {
	m, s := newTest(t)
	put := make(chan error, 2)
	m.done = func(err error) { put <- err }
	srv := httptest.NewServer(s.echo)
	defer srv.Close()
	for _, head := range []string{"Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "PUT /v1/objects/photos/half HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer operator\r\n%s", head)
		conn.(*net.TCPConn).CloseWrite()
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil && resp.StatusCode < 400 {
			t.Errorf("answered %s", resp.Status)
		}
		conn.Close()
		if err := <-put; err == nil {
			t.Error("half a body was taken for the whole")
		}
	}
	m.breaks = true
	if status, body, err := fetch(t, srv.URL+greeting); err == nil {
		t.Errorf("half the object was given as the whole: %d %q", status, body)
	}
}

// fetch reads an answer to its end.
func fetch(t *testing.T, url string) (status int, body []byte, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(deadline(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer operator")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// A server that stops ends what it streams, and a part of a backup or a log must not look like the whole.
func TestWhatAStopCutsOffIsNotTakenForTheWhole(t *testing.T) {
	begun := strings.Repeat("begun\n", 4096) // more than is held back
	for _, path := range []string{"/v1/storage:backup", hello + "/logs"} {
		m, s := newTest(t)
		base, stop := context.WithCancel(context.Background())
		m.backup = func(ctx context.Context, w io.Writer) error {
			_, _ = io.WriteString(w, begun)
			<-ctx.Done()
			return ctx.Err()
		}
		log, w := io.Pipe()
		m.log = log
		go func() { // as a log does: it ends with its request
			_, _ = io.WriteString(w, begun)
			<-base.Done()
			w.Close()
		}()
		srv := httptest.NewUnstartedServer(s.echo)
		srv.Config.BaseContext = func(net.Listener) context.Context { return base }
		srv.Start()
		req, _ := http.NewRequestWithContext(deadline(t), http.MethodGet, srv.URL+path, nil)
		req.Header.Set("Authorization", "Bearer operator")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(begun))
		if _, err := io.ReadFull(resp.Body, got); err != nil {
			t.Fatal(err)
		}
		stop()
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: what came before the stop looks whole", path)
		}
		resp.Body.Close()
		srv.Close()
	}
}

// A backup that fails before its first byte is an error as any other; later it is cut.
func TestABackupThatFails(t *testing.T) {
	for _, before := range []string{"", "half"} {
		m, s := newTest(t)
		m.backup = func(_ context.Context, w io.Writer) error {
			_, _ = w.Write([]byte(before))
			return api.Errorf(api.CodeUnavailable, "the disk does not answer")
		}
		srv := httptest.NewServer(s.echo)
		status, body, err := fetch(t, srv.URL+"/v1/storage:backup")
		srv.Close()
		if cut := err != nil; cut != (before != "") || !cut && status != http.StatusServiceUnavailable {
			t.Errorf("after %q: %d %q, %v", before, status, body, err)
		}
	}
}

func TestUnfinishedUploadsAreSeenAndGivenUp(t *testing.T) {
	m, s := newTest(t)
	ids := func(query string) (out []string) {
		l := read[api.List[api.Upload]](t, ask(s, api.RoleViewer, http.MethodGet, "/v1/buckets/photos/uploads?"+query, ""))
		for _, u := range l.Items {
			out = append(out, u.ID)
		}
		return append(out, l.Cursor)
	}
	for query, want := range map[string][]string{
		"": {"one", "two", ""}, "limit=1": {"one", "one/a/b"}, "limit=1&cursor=one%2Fa%2Fb": {"two", "two/a/b"}, "limit=1&cursor=two%2Fa%2Fb": {""}, "prefix=b": {""},
	} {
		if d := cmp.Diff(want, ids(query)); d != "" {
			t.Errorf("%q: %s", query, d)
		}
	}
	wantCode(t, ask(s, api.RoleOperator, http.MethodDelete, "/v1/buckets/photos/uploads/one", ""), api.CodeInvalid)
	wantCode(t, ask(s, api.RoleOperator, http.MethodDelete, "/v1/buckets/photos/uploads/one?key=other", ""), api.CodeNotFound)
	wantStatus(t, ask(s, api.RoleOperator, http.MethodDelete, "/v1/buckets/photos/uploads/one?key=a%2Fb", ""), http.StatusNoContent)
	if len(m.uploads) != 1 || m.uploads[0].ID != "two" {
		t.Errorf("left are %v", m.uploads)
	}
}
