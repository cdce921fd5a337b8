package coordinator

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/internal/run"
)

// Patience of a restore: a piece that was not confirmed is sent again, until a leader has had the time to
// be elected several times over.
const (
	restorePause = 500 * time.Millisecond
	restoreTries = 60
)

// BackupStorage writes the object store's metadata as it is at one moment, while it goes on changing.
func (s *Server) BackupStorage(ctx context.Context, w io.Writer) error {
	if err := s.fresh(ctx); err != nil {
		return err
	}
	v := s.objects.View()
	return errors.Join(v.Backup(w), v.Close())
}

// RestoreStorage replaces the object store's metadata by a backup. It comes by the log, in pieces, the last
// of which replaces everything on all coordinators: a backup that is damaged or cut off changes nothing.
// For a day after it no node collects chunks, for what the backup names may have been deleted meanwhile.
func (s *Server) RestoreStorage(ctx context.Context, _ api.Caller, r io.Reader) error {
	id := api.NewID("r")
	pieces, err := objects.ReadPieces(r, id)
	if err != nil {
		return err
	}
	for {
		piece, err := pieces.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = s.restorePiece(ctx, piece)
		}
		if err != nil {
			s.dropRestore(id)
			return err
		}
	}
}

// restorePiece brings a piece into the log. It may come twice.
func (s *Server) restorePiece(ctx context.Context, piece *meta.Restore) error {
	for try := 1; ; try++ {
		_, err := s.applyOne(ctx, meta.Command{Restore: piece})
		code := api.CodeOf(err)
		if code != api.CodeUnavailable && code != api.CodeTimeout || try == restoreTries || run.Sleep(ctx, restorePause) != nil {
			return err
		}
	}
}

// dropRestore gives up what has come of a restore. If that fails, the next restore does it.
func (s *Server) dropRestore(id string) {
	ctx, cancel := context.WithTimeout(s.group.Context(), proposeTimeout)
	defer cancel()
	if _, err := s.applyOne(ctx, meta.Command{Restore: &meta.Restore{ID: id, Drop: true}}); err != nil {
		s.log.Warn().Err(err).Msg("what had come of a restore is not given up yet")
	}
}
