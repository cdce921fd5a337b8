package coordinator

import (
	"errors"
	"net/http"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/objects"
)

// maxMetaBody bounds the commands of one call: what an entry of the log may have, and the frame.
const maxMetaBody = objects.MaxEntryBytes + 1<<10

// handleMetaApply takes commands from a node. What expires is for the leader to say.
func (s *Server) handleMetaApply(w http.ResponseWriter, r *http.Request, _ string) {
	var req meta.Commands
	if !readJSONUpTo(w, r, maxMetaBody, &req) {
		return
	}
	for _, c := range req.Commands {
		if c.ExpireObjects != nil || c.ExpireSessions != nil {
			writeError(w, api.Errorf(api.CodeForbidden, "a node cannot say what has expired"))
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
	res, err := s.readMeta(r.Context(), q)
	answer(w, res, forNodes(err))
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
