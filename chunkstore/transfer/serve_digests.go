package transfer

import (
	"io"
	"net/http"
	"strconv"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
)

// digests reads those that a request names.
func (s *Server) digests(w http.ResponseWriter, r *http.Request) ([]string, error) {
	b, err := io.ReadAll(io.LimitReader(body(w, r), maxDigests*sumBytes+1))
	if err != nil {
		return nil, cutShort(err)
	}
	return decodeDigests(b)
}

// answer writes digests.
func answer(w http.ResponseWriter, digests []string, err error) error {
	var b []byte
	if err == nil {
		b, err = encodeDigests(digests)
	}
	if err != nil {
		return err
	}
	writeBytes(w, b)
	return nil
}

func writeBytes(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_ = send(w, b) // the client is gone; nobody is left to tell
}

func (s *Server) serveRef(w http.ResponseWriter, r *http.Request) error {
	digests, err := s.digests(w, r)
	if err != nil {
		return err
	}
	missing, err := s.Chunks.Ref(r.URL.Query().Get("owner"), digests...)
	return answer(w, missing, err)
}

func (s *Server) serveHas(w http.ResponseWriter, r *http.Request) error {
	digests, err := s.digests(w, r)
	if err != nil {
		return err
	}
	absent, err := missing(s.Chunks, digests)
	return answer(w, absent, err)
}

// missing are those of the chunks that are not here.
func missing(chunks *chunkstore.Chunks, digests []string) (out []string, err error) {
	for _, d := range digests {
		has, err := chunks.Has(d)
		if err != nil {
			return nil, err
		}
		if !has {
			out = append(out, d)
		}
	}
	return out, nil
}

func (s *Server) serveUnref(w http.ResponseWriter, r *http.Request) error {
	digests, err := s.digests(w, r)
	if err != nil {
		return err
	}
	if all := r.URL.Query().Get("all") == "true"; all != (len(digests) == 0) {
		return api.Errorf(api.CodeInvalid, "name the chunks, or say all")
	}
	return answer(w, nil, s.Chunks.Unref(r.Context(), r.URL.Query().Get("owner"), digests...))
}

func (s *Server) serveDrop(w http.ResponseWriter, r *http.Request) error {
	digests, err := s.digests(w, r)
	if err != nil {
		return err
	}
	kept, err := s.Chunks.Drop(digests...)
	if len(kept) > 0 {
		s.Pinned()
	}
	return answer(w, kept, err)
}

func (s *Server) serveList(w http.ResponseWriter, r *http.Request) error {
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil {
		return api.Errorf(api.CodeInvalid, "a list names its limit")
	}
	list, err := s.Chunks.List(r.URL.Query().Get("after"), limit)
	if err != nil {
		return err
	}
	b := make([]byte, 0, len(list)*rowBytes)
	for _, c := range list {
		b = appendRow(b, c)
	}
	writeBytes(w, b)
	return nil
}
