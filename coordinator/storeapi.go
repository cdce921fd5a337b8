package coordinator

import (
	"errors"
	"io"
	"net/http"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/objects"
)

// maxMetaBody bounds the commands of one call: what an entry of the log may have, and the frame.
const maxMetaBody = objects.MaxEntryBytes + 1<<10

// handleMetaApply takes commands from a node. What expires, and which chunks are kept as a group, is for the leader to say; what is restored for
// an admin, and what workloads run comes in by the REST API alone, not by an S3 door or a guest.
func (s *Server) handleMetaApply(w http.ResponseWriter, r *http.Request, _ string) {
	var req meta.Commands
	if !readPacked(w, r, &req) {
		return
	}
	for _, c := range req.Commands {
		if c.ExpireObjects != nil || c.ExpireSessions != nil || c.SealGroup != nil || c.Restore != nil {
			writeError(w, api.Errorf(api.CodeForbidden, "a node cannot say what has expired, nor what is kept as a group, nor restore a backup"))
			return
		}
		if err := own(c.Bucket()); err != nil {
			writeError(w, err)
			return
		}
	}
	res, err := s.applyMeta(r.Context(), req.Commands...)
	answer(w, res, forNodes(err))
}

func (s *Server) handleMetaRead(w http.ResponseWriter, r *http.Request, _ string) {
	var q meta.Query
	if !readJSON(w, r, &q) {
		return
	}
	a, err := s.readMeta(r.Context(), q)
	if err != nil {
		writeError(w, forNodes(err))
		return
	}
	packed, err := a.MarshalBinary()
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(packed) // the node is gone; nobody is left to tell
}

// readPacked reads commands; see meta.Commands.
func readPacked(w http.ResponseWriter, r *http.Request, c *meta.Commands) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMetaBody))
	if err == nil {
		err = c.UnmarshalBinary(body)
	}
	if err != nil {
		writeError(w, api.Errorf(api.CodeInvalid, "the body is not what was expected: %v", err))
	}
	return err == nil
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
