package coordinator

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/link"
)

// peerAPI is what other coordinators may ask.
func (s *Server) peerAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.PathPropose, s.handlePropose)
	mux.HandleFunc("POST "+api.PathPeerMeta, s.handlePeerMeta)
	mux.HandleFunc("POST "+api.PathPeerShort, s.handlePeerShort)
	mux.HandleFunc("GET "+api.PathPeerUpkeep, s.handlePeerUpkeep)
	mux.HandleFunc("POST "+api.PathPeerUpkeep, s.handlePeerUpkeep)
	mux.HandleFunc("GET "+api.PathPeerReadIndex, func(w http.ResponseWriter, r *http.Request) {
		err := s.leaderOnly(func() error { return s.fresh(r.Context()) })
		answer(w, api.PeerReadIndex{Index: s.applied.get()}, err)
	})
	mux.HandleFunc("POST "+api.PathPeerJoin, s.handlePeerJoin)
	mux.HandleFunc("DELETE "+api.PathPeerJoin+"/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, s.leaderOnly(func() error { return s.removeHere(r.Context(), r.PathValue("id")) }))
	})
	mux.HandleFunc("GET "+api.PathPeerInfo, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, api.PeerInfo{Member: s.self(), Applied: s.raft.AppliedIndex(), Trust: s.trust.Load().index, Seal: s.sealHeld()})
	})
	mux.HandleFunc("GET "+api.PathPeerKeys, s.handlePeerKeys)
	mux.HandleFunc("POST "+api.PathPeerRemoved, s.handlePeerRemoved)
	mux.HandleFunc("GET "+api.PathPeerEvents, s.handlePeerEvents)
	return mux
}

// leaderOnly refuses, in a way that tells the caller that nothing was done, unless this one leads.
func (s *Server) leaderOnly(f func() error) error {
	if !s.raft.IsLeader() {
		return notSent("coordinator %s does not lead", s.cfg.Name)
	}
	return f()
}

func (s *Server) handlePropose(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4*api.MaxBodyBytes))
	if err != nil {
		writeError(w, api.Errorf(api.CodeInvalid, "read the command: %v", err))
		return
	}
	if _, err := state.Decode(data); err != nil { // before the log, where it could not be taken back
		writeError(w, api.Errorf(api.CodeInvalid, "%v", err))
		return
	}
	err = s.leaderOnly(func() error {
		res, index, err := s.proposeHere(r.Context(), data)
		if err != nil {
			return err
		}
		resp := api.ProposeResponse{Index: index, Error: res.Err}
		res.Err = nil
		if resp.Value, err = json.Marshal(res); err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, resp)
		return nil
	})
	if err != nil {
		writeError(w, err)
	}
}

func (s *Server) handlePeerMeta(w http.ResponseWriter, r *http.Request) {
	var req meta.Commands
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, api.MaxMetaBytes))
	if err == nil {
		err = req.UnmarshalBinary(body)
	}
	if err != nil {
		writeError(w, unexpected(err))
		return
	}
	var res *meta.Results
	err = s.leaderOnly(func() (err error) {
		res, err = s.applyMetaHere(r.Context(), req.Commands)
		return err
	})
	answer(w, res, err)
}

func (s *Server) handlePeerJoin(w http.ResponseWriter, r *http.Request) {
	var m api.Member
	if !readJSON(w, r, &m) {
		return
	}
	if id, ok := link.PeerOfRequest(r); !ok || id.ID != m.ID {
		writeError(w, api.Errorf(api.CodeForbidden, "a coordinator can ask only for itself"))
		return
	}
	s.hear(m)
	if s.raft.IsLeader() {
		answer(w, struct{}{}, s.admit(r.Context(), m))
		return
	}
	answer(w, nil, notSent("coordinator %s does not lead", s.cfg.Name))
}

func jsonBody(b []byte) io.Reader { return bytes.NewReader(b) }
