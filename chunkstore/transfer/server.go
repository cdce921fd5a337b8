package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
)

// What is served at one time; the next wait for busyWait and are then sent away.
const (
	budget      = 64 << 20 // bytes of the chunks that are received or sent
	smallBudget = 8 << 20
	busyWait    = 3 * time.Second
	retryAfter  = "1" // second
)

// Server serves this node's chunks. Its fields are set before its first use.
type Server struct {
	Chunks *chunkstore.Chunks
	Client *Client // with which chunks are pulled from other nodes
	// Maintains tells who may list, copy and drop chunks and remove pins. Nil: nobody.
	Maintains func(*http.Request) bool
	// Pinned is called when chunks were to be dropped that somebody pins. Nil does nothing.
	Pinned func()
	// Pace is called with the bytes of each chunk that was pulled, and may wait. Nil does not.
	Pace  func(ctx context.Context, bytes int64) error
	Small bool
	Log   zerolog.Logger

	once   sync.Once
	mux    *http.ServeMux
	leads  leads
	memory *semaphore.Weighted
	pulls  *semaphore.Weighted
}

func (s *Server) setUp() {
	if s.Pace == nil {
		s.Pace = func(ctx context.Context, _ int64) error { return ctx.Err() }
	}
	if s.Pinned == nil {
		s.Pinned = func() {}
	}
	s.memory = semaphore.NewWeighted(s.budget())
	s.pulls = semaphore.NewWeighted(s.maxPulls())
	s.mux = http.NewServeMux()
	for pattern, serve := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST " + pathPut:          s.servePut,
		"GET " + pathGet + "{hex}": s.serveGet,
		"POST " + pathFetch:        s.serveFetch,
		"POST " + pathRef:          s.serveRef,
		"POST " + pathHas:          s.serveHas,
		"POST " + pathUnref:        s.maintained(s.serveUnref),
		"POST " + pathDrop:         s.maintained(s.serveDrop),
		"GET " + pathList:          s.maintained(s.serveList),
		"POST " + pathCopy:         s.maintained(s.serveCopy),
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			err := s.forLeader(r)
			if err == nil {
				err = serve(w, r)
			}
			if err != nil {
				writeError(w, err)
			}
		})
	}
}

func (s *Server) budget() int64 {
	if s.Small {
		return smallBudget
	}
	return budget
}

// ServeHTTP serves one request. Handlers return an error only if they have written nothing.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.once.Do(s.setUp)
	s.mux.ServeHTTP(w, r)
}

func (s *Server) maintained(serve func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.Maintains == nil || !s.Maintains(r) {
			return api.Errorf(api.CodeForbidden, "this is for coordinators only")
		}
		return serve(w, r)
	}
}

func writeError(w http.ResponseWriter, err error) {
	if errors.Is(err, chunkstore.ErrCorrupt) {
		w.Header().Set(headerDamaged, "true")
	}
	if errors.Is(err, errBusy) {
		w.Header().Set("Retry-After", retryAfter)
	}
	e := api.AsError(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Code.HTTPStatus())
	_ = json.NewEncoder(w).Encode(api.ErrorBody{Error: e}) // the caller is gone; nobody is left to tell
}

var errBusy = errors.New("busy")

// take waits a little for the memory of n bytes, so that a burst is not sent away.
func (s *Server) take(ctx context.Context, n int64, wait time.Duration) (release func(), err error) {
	n = min(n, s.budget())
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if s.memory.Acquire(ctx, n) != nil {
		e := api.Errorf(api.CodeUnavailable, "this node is moving as many chunks as it can").WithHint("try again, or another node")
		e.Err = errBusy
		return nil, e
	}
	return func() { s.memory.Release(n) }, nil
}

// patient is the body of a request. Each read has stallTime: whoever sends nothing is given up, whoever
// is slow is not.
type patient struct {
	io.Reader
	out *http.ResponseController
}

func body(w http.ResponseWriter, r *http.Request) patient {
	return patient{r.Body, http.NewResponseController(w)}
}

// Read reads. At the end the deadline goes, or the request would end with it.
func (p patient) Read(b []byte) (int, error) {
	_ = p.out.SetReadDeadline(time.Now().Add(stallTime)) // every connection has one
	n, err := p.Reader.Read(b)
	if err != nil {
		_ = p.out.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (s *Server) servePut(w http.ResponseWriter, r *http.Request) error {
	codec, err := strconv.ParseUint(r.URL.Query().Get("codec"), 10, 8)
	if err != nil || r.ContentLength <= 0 {
		return api.Errorf(api.CodeInvalid, "a put names its codec and its length")
	}
	if r.ContentLength > maxBatch {
		return api.Errorf(api.CodeTooLarge, "%d bytes in one put, at most %d are allowed", r.ContentLength, maxBatch)
	}
	release, err := s.take(r.Context(), r.ContentLength, busyWait)
	if err != nil {
		return err
	}
	defer release()
	chunks, free, err := readChunks(body(w, r))
	defer free()
	if err != nil {
		return err
	}
	o := chunkstore.PutOptions{Owner: r.URL.Query().Get("owner"), Codec: chunkstore.Codec(codec)}
	if err := s.Chunks.Put(r.Context(), o, chunks...); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// readChunks reads frames to the end, into buffers that free gives back.
func readChunks(r io.Reader) (chunks []chunkstore.Chunk, free func(), err error) {
	var held []*[]byte
	free = func() {
		for _, b := range held {
			chunkstore.PutBuffer(b)
		}
	}
	for {
		digest, n, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			return chunks, free, nil
		}
		if err != nil {
			return nil, free, cutShort(err)
		}
		b := chunkstore.GetBuffer(n)
		held = append(held, b)
		if _, err := io.ReadFull(r, *b); err != nil {
			return nil, free, cutShort(err)
		}
		chunks = append(chunks, chunkstore.Chunk{Digest: digest, Data: *b})
	}
}

// cutShort is the error of a request that did not come whole.
func cutShort(err error) error {
	var known *api.Error
	if errors.As(err, &known) {
		return err
	}
	return api.Errorf(api.CodeInvalid, "the chunks did not come whole: %w", err).WithHint("send them again")
}

func (s *Server) serveGet(w http.ResponseWriter, r *http.Request) error {
	digest := "sha256:" + r.PathValue("hex")
	from, err := rangeStart(r.Header.Get("Range"))
	if err != nil {
		return err
	}
	if r.URL.Query().Get("verify") == "true" {
		if err := s.Chunks.Verify(digest); err != nil {
			return err
		}
	}
	info, err := s.Chunks.Stat(digest)
	if err != nil {
		return err
	}
	release, err := s.take(r.Context(), info.Bytes, busyWait)
	if err != nil {
		return err
	}
	defer release()
	buf := chunkstore.GetBuffer(int(info.Bytes))
	defer chunkstore.PutBuffer(buf)
	data, err := s.Chunks.Get(digest, (*buf)[:0])
	if err != nil {
		return err
	}
	if from > len(data) {
		return api.Errorf(api.CodeInvalid, "chunk %s has %d bytes, asked were those from %d", digest, len(data), from)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	_ = send(w, data[from:]) // the client has gone, or goes on later
	return nil
}

// writeStep is how much must get through in stallTime.
const writeStep = 256 << 10

// send writes bytes, however long that takes while some get through.
func send(w http.ResponseWriter, data []byte) error {
	out := http.NewResponseController(w)
	for len(data) > 0 {
		_ = out.SetWriteDeadline(time.Now().Add(stallTime)) // every connection has one
		n, err := w.Write(data[:min(len(data), writeStep)])
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// rangeStart is where a chunk is to be gone on with. Other ranges than to the end are not served.
func rangeStart(header string) (int, error) {
	if header == "" {
		return 0, nil
	}
	from, ok := strings.CutPrefix(header, "bytes=")
	from, open := strings.CutSuffix(from, "-")
	n, err := strconv.Atoi(from)
	if !ok || !open || err != nil || n < 0 {
		return 0, api.Errorf(api.CodeInvalid, "the range %q is none of bytes=N-", header)
	}
	return n, nil
}
