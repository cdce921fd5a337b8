package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/internal/pki"
)

// answerLine answers what a node asks on a line.
func (s *Server) answerLine(ctx context.Context, from pki.Identity, kind byte, body []byte) (byte, []byte) {
	answer, err := s.askedOnLine(ctx, from, kind, body)
	if err == nil {
		return api.LineAnswer, answer
	}
	refusal, _ := json.Marshal(api.ErrorBody{Error: api.AsError(err)}) // strings can be written
	return api.LineError, refusal
}

func (s *Server) askedOnLine(ctx context.Context, from pki.Identity, kind byte, body []byte) ([]byte, error) {
	if err := s.verifyPeer(from); err != nil { // a line that was open when the node was removed
		return nil, err
	}
	switch kind {
	case api.LineMetaApply:
		return s.metaApplied(ctx, body)
	case api.LineMetaRead:
		return s.metaAnswers(ctx, body)
	}
	return nil, api.Errorf(api.CodeInvalid, "a question of kind %d is not known", kind)
}

// metaApplied takes commands from a node. What expires, and which chunks are kept as a group, is for the leader to say; what is restored for
// an admin, and what workloads run comes in by the REST API alone, not by an S3 door or a guest: such a change is refused
// by itself, for those that come with it are other callers'.
func (s *Server) metaApplied(ctx context.Context, body []byte) ([]byte, error) {
	var req meta.Commands
	if err := req.UnmarshalBinary(body); err != nil {
		return nil, unexpected(err)
	}
	var allowed []meta.Command
	refusals := make([]*api.Error, len(req.Commands))
	for i, c := range req.Commands {
		if c.ExpireObjects != nil || c.ExpireSessions != nil || c.SealGroup != nil || c.Restore != nil {
			return nil, api.Errorf(api.CodeForbidden, "a node cannot say what has expired, nor what is kept as a group, nor restore a backup")
		}
		if refusals[i] = own(c.Bucket()); refusals[i] == nil {
			allowed = append(allowed, c)
		}
	}
	if len(allowed) == 0 && len(refusals) > 0 {
		return nil, refusals[0]
	}
	res, err := s.applyMeta(ctx, allowed...)
	if err != nil {
		return nil, forNodes(err)
	}
	for i, refusal := range refusals {
		if refusal != nil {
			res.Results = slices.Insert(res.Results, i, meta.Result{Err: refusal})
		}
	}
	return json.Marshal(res)
}

// metaAnswers answers queries of a node.
func (s *Server) metaAnswers(ctx context.Context, body []byte) ([]byte, error) {
	var req meta.Queries
	if err := readStrictly(bytes.NewReader(body), &req); err != nil {
		return nil, err
	}
	if n := len(req.Queries); n < 1 || n > meta.MaxQueries {
		return nil, api.Errorf(api.CodeInvalid, "%d queries at once, 1 to %d are allowed", n, meta.MaxQueries)
	}
	answers, err := s.readMetas(ctx, req.Queries...)
	if err == nil && len(req.Queries) == 1 && answers[0].Err != nil {
		err = answers[0].Err
	}
	if err != nil {
		return nil, forNodes(err)
	}
	return meta.Answers{Answers: answers}.MarshalBinary()
}

// handleMetaRead is for what a node asks by itself, which may take long.
func (s *Server) handleMetaRead(w http.ResponseWriter, r *http.Request, _ string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, api.MaxBodyBytes))
	if err != nil {
		writeError(w, unexpected(err))
		return
	}
	packed, err := s.metaAnswers(r.Context(), body)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(packed) // the node is gone; nobody is left to tell
}

// forNodes gives an error as a node is to see it: what is safe to try again was tried for it already.
func forNodes(err error) error {
	if !errors.Is(err, errNotSent) {
		return err
	}
	e := *api.AsError(err)
	e.Err = nil
	return &e
}

// handleStoreMembers tells who keeps chunks, if that has changed since the revision that the node has.
func (s *Server) handleStoreMembers(w http.ResponseWriter, r *http.Request, _ string) {
	members := s.storeMembers()
	if members.Revision == queryUint(r, "revision") {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	writeJSON(w, http.StatusOK, members)
}

func (s *Server) handleStoreShort(w http.ResponseWriter, r *http.Request, _ string) {
	var req api.StoreShort
	if !readJSON(w, r, &req) {
		return
	}
	if len(req.Chunks) > api.MaxStoreShort {
		writeError(w, api.Errorf(api.CodeTooLarge, "%d chunks, at most %d are allowed at once", len(req.Chunks), api.MaxStoreShort))
		return
	}
	for _, d := range req.Chunks {
		if !api.IsDigest(d) {
			writeError(w, api.Errorf(api.CodeInvalid, "%q is not a digest", d))
			return
		}
	}
	s.short.add(req.Chunks...)
	writeJSON(w, http.StatusOK, struct{}{})
}
