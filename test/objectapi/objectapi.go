// Package objectapi serves the REST API of an object store from memory, for tests of its clients: what
// the coordinators answer, and how it breaks, is in the hands of the test.
package objectapi

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// Server is the store. Its maps are for the test to look at when no request is under way.
type Server struct {
	Buckets map[string]api.Bucket
	Objects map[string]Object // by bucket/key
	Chunks  map[string][]byte
	Sent    int // chunks
	Whole   int // objects that came as one body
	Backup  []byte
	Asked   []string // work of the store
	Report  api.StorageReport
	// Hook, if set, may answer a request in the server's place.
	Hook func(w http.ResponseWriter, r *http.Request) (done bool)

	mu  sync.Mutex
	mux *http.ServeMux
}

// Object is an object with its bytes.
type Object struct {
	api.Object
	Data []byte
}

// New makes a store with these buckets.
func New(buckets ...string) *Server {
	s := &Server{Buckets: map[string]api.Bucket{}, Objects: map[string]Object{}, Chunks: map[string][]byte{}, mux: http.NewServeMux()}
	for _, name := range buckets {
		b := api.Bucket{Name: name, ModifyIndex: 1}
		b.Default()
		s.Buckets[name] = b
	}
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /v1/buckets": s.listBuckets, "POST /v1/buckets": s.createBucket, "/v1/buckets/{bucket}": s.bucket, "GET /v1/buckets/{bucket}/objects": s.listObjects,
		"POST /v1/uploads": s.openUpload, "POST /v1/uploads/{id}/missing": s.missing, "PUT /v1/uploads/{id}/chunks/{digest}": s.putChunk, "POST /v1/uploads/{id}/commit": s.commit,
		"GET /v1/storage": func(w http.ResponseWriter, _ *http.Request) { answer(w, s.Report) }, "GET /v1/storage:backup": s.backup, "POST /v1/storage:restore": s.restore,
		"POST /v1/storage:scrub": s.work, "POST /v1/storage:repair": s.work, "POST /v1/storage:collect": s.work,
	} {
		s.mux.HandleFunc(pattern, h)
	}
	return s
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.Hook != nil && s.Hook(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/v1/objects/"); ok { // past the mux, which cleans paths
		bucket, key, _ := strings.Cut(rest, "/")
		key, _ = url.PathUnescape(key)
		s.object(w, r, bucket, key)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func answer(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

// Refuse answers with an error.
func Refuse(w http.ResponseWriter, e *api.Error) {
	w.WriteHeader(e.Code.HTTPStatus())
	answer(w, api.ErrorBody{Error: e})
}

func (s *Server) listBuckets(w http.ResponseWriter, _ *http.Request) {
	l := api.List[api.BucketView]{Items: []api.BucketView{}}
	for _, name := range slices.Sorted(maps.Keys(s.Buckets)) {
		l.Items = append(l.Items, s.view(name))
	}
	answer(w, l)
}

func (s *Server) view(name string) api.BucketView {
	v := api.BucketView{Bucket: s.Buckets[name]}
	for _, o := range s.Objects {
		if o.Bucket == name {
			v.Usage.Objects++
			v.Usage.Bytes += o.Size
		}
	}
	return v
}

func (s *Server) createBucket(w http.ResponseWriter, r *http.Request) {
	var b api.Bucket
	_ = json.NewDecoder(r.Body).Decode(&b)
	if _, there := s.Buckets[b.Name]; there {
		Refuse(w, api.Errorf(api.CodeConflict, "bucket %s exists", b.Name))
		return
	}
	b.Default()
	s.Buckets[b.Name] = b
	answer(w, s.view(b.Name))
}

func (s *Server) bucket(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("bucket")
	b, there := s.Buckets[name]
	switch {
	case !there:
		Refuse(w, api.Errorf(api.CodeNotFound, "there is no bucket %s", name))
	case r.Method == http.MethodDelete && s.view(name).Usage.Objects > 0:
		Refuse(w, api.Errorf(api.CodeConflict, "bucket %s is not empty", name).WithReason(api.ReasonBucketNotEmpty))
	case r.Method == http.MethodDelete:
		delete(s.Buckets, name)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut:
		_ = json.NewDecoder(r.Body).Decode(&b)
		b.Default()
		s.Buckets[name] = b
		fallthrough
	default:
		answer(w, s.view(name))
	}
}

func (s *Server) listObjects(w http.ResponseWriter, r *http.Request) {
	bucket, q := r.PathValue("bucket"), r.URL.Query()
	if _, there := s.Buckets[bucket]; !there {
		Refuse(w, api.Errorf(api.CodeNotFound, "there is no bucket %s", bucket))
		return
	}
	limit := 1000
	fmt.Sscan(q.Get("limit"), &limit)
	l := api.ObjectList{Items: []*api.Object{}}
	last := ""
	for _, at := range slices.Sorted(maps.Keys(s.Objects)) {
		o := s.Objects[at].Object
		if o.Bucket != bucket || !strings.HasPrefix(o.Key, q.Get("prefix")) || o.Key <= q.Get("after") {
			continue
		}
		if len(l.Items)+len(l.Prefixes) == limit {
			l.Cursor = last
			break
		}
		last = o.Key
		if rest := o.Key[len(q.Get("prefix")):]; q.Get("delimiter") != "" && strings.Contains(rest, q.Get("delimiter")) {
			common := o.Key[:len(q.Get("prefix"))+strings.Index(rest, q.Get("delimiter"))+len(q.Get("delimiter"))]
			if !slices.Contains(l.Prefixes, common) {
				l.Prefixes = append(l.Prefixes, common)
			}
			continue
		}
		l.Items = append(l.Items, &o)
	}
	answer(w, l)
}

// Put keeps an object.
func (s *Server) Put(p api.ObjectPut, data []byte) *api.Object {
	tag, sum := md5.Sum(data), sha256.Sum256(data)
	o := api.Object{Bucket: p.Bucket, Key: p.Key, Size: int64(len(data)), ETag: hex.EncodeToString(tag[:]), SHA256: hex.EncodeToString(sum[:]), ObjectHead: p.ObjectHead, Modified: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)}
	s.Objects[p.Bucket+"/"+p.Key] = Object{o, data}
	return &o
}

func (s *Server) object(w http.ResponseWriter, r *http.Request, bucket, key string) {
	o, there := s.Objects[bucket+"/"+key]
	if _, has := s.Buckets[bucket]; !has || !there && r.Method == http.MethodGet {
		Refuse(w, api.Errorf(api.CodeNotFound, "there is no object %s in bucket %s", key, bucket))
		return
	}
	if match := strings.Trim(r.Header.Get("If-Match"), `"`); match != "" && match != o.ETag || there && r.Header.Get("If-None-Match") == "*" {
		Refuse(w, api.Errorf(api.CodeConflict, "object %s is another", key).WithReason(api.ReasonPrecondition))
		return
	}
	switch r.Method {
	case http.MethodPut:
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.Whole++
		p := api.ObjectPut{Bucket: bucket, Key: key, ObjectHead: api.ObjectHead{ContentType: r.Header.Get("Content-Type")}}
		for name := range r.Header {
			if after, ok := strings.CutPrefix(name, "X-Cloudless-Meta-"); ok {
				p.Metadata = map[string]string{strings.ToLower(after): r.Header.Get(name)}
			}
		}
		answer(w, s.Put(p, data))
	case http.MethodPost:
		var c api.ObjectCopy
		_ = json.NewDecoder(r.Body).Decode(&c)
		from := s.Objects[c.FromBucket+"/"+c.FromKey]
		answer(w, s.Put(api.ObjectPut{Bucket: bucket, Key: key, ObjectHead: *cmp.Or(c.Head, &from.ObjectHead)}, from.Data))
	case http.MethodDelete:
		delete(s.Objects, bucket+"/"+key)
		w.WriteHeader(http.StatusNoContent)
	default:
		s.get(w, r, o)
	}
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, o Object) {
	if r.URL.Query().Get("metadata") == "true" {
		answer(w, o.Object)
		return
	}
	sum, _ := hex.DecodeString(o.SHA256)
	w.Header().Set("ETag", `"`+o.ETag+`"`)
	w.Header().Set("Content-Type", cmp.Or(o.ContentType, "application/octet-stream"))
	w.Header().Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":")
	http.ServeContent(w, r, "", o.Modified, bytes.NewReader(o.Data))
}

func (s *Server) openUpload(w http.ResponseWriter, r *http.Request) {
	var u api.UploadRequest
	_ = json.NewDecoder(r.Body).Decode(&u)
	answer(w, api.UploadSession{ID: "s-1", Bucket: u.Bucket})
}

func (s *Server) missing(w http.ResponseWriter, r *http.Request) {
	var ask api.MissingRequest
	_ = json.NewDecoder(r.Body).Decode(&ask)
	got := api.MissingAnswer{Missing: []string{}}
	for _, d := range ask.Chunks {
		if _, has := s.Chunks[d]; !has {
			got.Missing = append(got.Missing, d)
		}
	}
	answer(w, got)
}

func (s *Server) putChunk(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil || fmt.Sprintf("sha256:%x", sha256.Sum256(data)) != r.PathValue("digest") {
		Refuse(w, api.Errorf(api.CodeInvalid, "the bytes are not those of the digest"))
		return
	}
	s.Sent++
	s.Chunks[r.PathValue("digest")] = data
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) commit(w http.ResponseWriter, r *http.Request) {
	var c api.UploadCommit
	_ = json.NewDecoder(r.Body).Decode(&c)
	m, err := split.Decode(c.Manifest)
	if err != nil {
		Refuse(w, api.Errorf(api.CodeInvalid, "%w", err))
		return
	}
	var data []byte
	for _, chunk := range m.Chunks {
		data = append(data, s.Chunks[chunk.Name()]...)
	}
	o := s.Put(c.ObjectPut, data)
	if o.ETag != m.ETag() || o.SHA256 != hex.EncodeToString(m.SHA256[:]) || o.Size != c.Size {
		Refuse(w, api.Errorf(api.CodeInvalid, "the manifest is not that of the chunks"))
		return
	}
	answer(w, o)
}

func (s *Server) backup(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(s.Backup) }

func (s *Server) restore(w http.ResponseWriter, r *http.Request) {
	s.Backup, _ = io.ReadAll(r.Body)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) work(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.Asked = append(s.Asked, strings.TrimPrefix(r.URL.Path, "/v1/storage:")+" "+string(body))
	w.WriteHeader(http.StatusNoContent)
}
