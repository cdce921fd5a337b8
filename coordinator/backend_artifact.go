package coordinator

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// Bounds of moving artifacts between coordinators.
const artifactTimeout = 10 * time.Minute

// Artifact finds what the cluster's store holds.
func (s *Server) Artifact(_ context.Context, digest string) (api.Artifact, error) {
	a, ok := s.store.View().Artifact(digest)
	if !ok {
		return api.Artifact{}, api.Errorf(api.CodeNotFound, "no artifact %s", digest)
	}
	return *a, nil
}

// PutArtifact stores an upload here, durably, then on as many other coordinators as make a majority,
// and only then enters it into the log. The others fetch it when they see the row (keepArtifacts).
func (s *Server) PutArtifact(ctx context.Context, c api.Caller, digest, kind string, r io.Reader) (api.Artifact, error) {
	if !api.IsDigest(digest) {
		return api.Artifact{}, api.Errorf(api.CodeInvalid, "digest: %q is not sha256: and 64 hex digits", digest)
	}
	if kind != api.ArtifactWasm && kind != api.ArtifactOCI {
		return api.Artifact{}, api.Errorf(api.CodeInvalid, "kind: %q is not wasm or oci", kind)
	}
	size, err := s.artifacts.Put(ctx, digest, r)
	if err != nil {
		return api.Artifact{}, err
	}
	holders, err := s.spread(ctx, digest)
	if err != nil {
		return api.Artifact{}, err
	}
	row := &api.Artifact{Digest: digest, Size: size, Kind: kind, Holders: holders}
	_, _, err = s.propose(ctx, state.Command{By: &c, PutArtifact: row})
	if err != nil {
		return api.Artifact{}, err
	}
	return s.Artifact(ctx, digest)
}

// spread copies an artifact to other voters until a majority holds it.
func (s *Server) spread(ctx context.Context, digest string) ([]string, error) {
	servers, err := s.raft.Servers()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, artifactTimeout)
	defer cancel()
	holders := []string{s.id.ID}
	need, last := 0, error(nil)
	for _, sv := range servers {
		if sv.Voter {
			need++
		}
	}
	need = need/2 + 1
	for _, sv := range servers {
		if len(holders) >= need {
			break
		}
		if !sv.Voter || sv.ID == s.id.ID {
			continue
		}
		if last = s.pushArtifact(ctx, sv.ID, digest); last == nil {
			holders = append(holders, sv.ID)
		}
	}
	if len(holders) < need {
		return nil, &api.Error{Code: api.CodeUnavailable, Message: "the artifact is on fewer coordinators than make a majority", Hint: "bring the others up, then upload again", Err: last}
	}
	return holders, nil
}

func (s *Server) pushArtifact(ctx context.Context, id, digest string) error {
	f, _, err := s.artifacts.Open(digest)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.peerCall(ctx, id, http.MethodPut, api.PathPeerArtifacts+digest, f, nil)
}

// keepArtifacts fetches, as rows appear, what this coordinator does not hold yet, and deletes what
// has no row any more. It ends with the coordinator.
func (s *Server) keepArtifacts(ctx context.Context) error {
	for ctx.Err() == nil {
		v := s.store.View()
		_, changed := v.Mark(state.MarkArtifacts)
		complete := true
		for _, a := range v.Artifacts() {
			if !s.artifacts.Has(a.Digest) {
				complete = s.pullArtifact(ctx, a) == nil && complete
			}
		}
		var retry <-chan time.Time
		if !complete {
			retry = time.After(5 * time.Second)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-retry:
		}
	}
	return nil
}

func (s *Server) pullArtifact(ctx context.Context, a *api.Artifact) error {
	ctx, cancel := context.WithTimeout(ctx, artifactTimeout)
	defer cancel()
	var err error = os.ErrNotExist
	for _, id := range a.Holders {
		if id == s.id.ID {
			continue
		}
		var resp *http.Response
		if resp, err = s.peerDo(ctx, id, http.MethodGet, api.PathPeerArtifacts+a.Digest, nil); err != nil {
			continue
		}
		_, err = s.artifacts.Put(ctx, a.Digest, resp.Body)
		err = errors.Join(err, resp.Body.Close())
		if err == nil {
			return nil
		}
	}
	return err
}
