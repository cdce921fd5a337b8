package web

import (
	"net/http"

	"github.com/cloudless/cloudless/api"
)

func (s *server) storageReport(c *call) (answer, error) {
	r, err := s.backend.StorageReport(c.context())
	if r.Nodes == nil {
		r.Nodes = []api.StorageNode{}
	}
	return okOr(r, err)
}

// scrubStorage and its siblings answer as soon as the work is asked for; the report tells how it goes.
func (s *server) scrubStorage(c *call) (answer, error) {
	var req api.ScrubRequest
	if err := c.decodeOptional(&req); err != nil {
		return failed(err)
	}
	return noContentOr(s.backend.ScrubStorage(c.context(), c.caller, req.Node))
}

func (s *server) repairStorage(c *call) (answer, error) {
	return noContentOr(s.backend.RepairStorage(c.context(), c.caller))
}

func (s *server) collectStorage(c *call) (answer, error) {
	var req api.CollectRequest
	if err := c.decodeOptional(&req); err != nil {
		return failed(err)
	}
	return noContentOr(s.backend.CollectStorage(c.context(), c.caller, req.Anyway))
}

// backupStorage streams the metadata. A backup that breaks off ends with a cut, and is no backup.
func (s *server) backupStorage(c *call) error {
	end, err := s.sessions.open(c.key())
	if err != nil {
		return err
	}
	defer end()
	out := &lateWriter{c: c, steadyWriter: steadyWriter{c.echo.Response(), c.controller()}}
	err = s.backend.BackupStorage(c.context(), out)
	if err != nil && !out.begun {
		return err
	}
	return brokeStream(err)
}

// lateWriter begins the answer with its first bytes: until then it can still be an error.
type lateWriter struct {
	c *call
	steadyWriter
	begun bool
}

func (l *lateWriter) Write(p []byte) (int, error) {
	if !l.begun && len(p) > 0 {
		l.begun = true
		l.c.header().Set("Content-Type", defaultContentType)
		l.c.echo.Response().WriteHeader(http.StatusOK)
	}
	return l.steadyWriter.Write(p)
}

// restoreStorage takes a backup. The backend changes nothing before it has read and checked all of it.
func (s *server) restoreStorage(c *call) error {
	end, err := s.sessions.open(c.key())
	if err != nil {
		return err
	}
	defer end()
	body := &checkedReader{r: steadyReader{c.request().Body, c.controller()}}
	err = s.audited(c, c.route, func() error { return s.backend.RestoreStorage(c.context(), c.caller, body) })
	if err != nil {
		return err
	}
	return c.write(http.StatusNoContent, nil)
}
