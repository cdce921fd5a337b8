package coordinator

import (
	"context"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/state"
	"github.com/cloudless/cloudless/internal/run"
)

const (
	artifactInterval = time.Hour
	// unusedFor is how long nothing must have named an artifact before it goes: whoever uploads one names
	// it a moment later, and who goes back to an old version does so within days.
	unusedFor = 7 * 24 * time.Hour
)

// keepArtifacts removes artifacts that no version of a workload has named for a while, as far back as
// this leader has looked. It ends with the leadership; the next leader begins to count anew.
func (s *Server) keepArtifacts(ctx context.Context) error {
	for s.ensureArtifacts(ctx) != nil {
		if run.Sleep(ctx, time.Second) != nil {
			return nil
		}
	}
	unused := map[string]time.Time{} // since when
	for {
		for _, digest := range idle(s.store.View(), unused, time.Now()) {
			if err := s.removeArtifact(ctx, digest); err != nil && ctx.Err() == nil {
				s.log.Warn().Err(err).Str("artifact", digest).Msg("artifact not removed; trying again")
			}
		}
		if run.Sleep(ctx, artifactInterval) != nil {
			return nil
		}
	}
}

// idle notes what nothing names, and gives what has been so for long enough.
func idle(v state.View, unused map[string]time.Time, now time.Time) (digests []string) {
	named := v.NamedArtifacts()
	held := map[string]bool{}
	for _, a := range v.Artifacts() {
		held[a.Digest] = true
		since, known := unused[a.Digest]
		switch {
		case named[a.Digest]:
			delete(unused, a.Digest)
		case !known:
			unused[a.Digest] = now
		case now.Sub(since) >= unusedFor:
			digests = append(digests, a.Digest)
		}
	}
	for d := range unused {
		if !held[d] {
			delete(unused, d)
		}
	}
	return digests
}

// removeArtifact first takes the right to name it, which the state refuses if anything does; then the
// bytes. What breaks off in between leaves bytes that the next upload of them replaces.
func (s *Server) removeArtifact(ctx context.Context, digest string) error {
	if _, _, err := s.propose(ctx, state.Command{RemoveArtifact: &state.ByID{ID: digest}}); err != nil {
		return err
	}
	_, err := s.applyOne(ctx, meta.Command{Delete: &meta.Delete{Bucket: api.ArtifactBucket, Key: api.ArtifactKey(digest)}})
	return err
}
