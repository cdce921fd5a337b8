package objects

import (
	"github.com/cloudless/cloudless/api"
)

// session gives one that is alive at the time of the command.
func (d *decision) session(id string) (*api.UploadSession, *api.Error) {
	s := &api.UploadSession{}
	if !d.read(sessionKeys+id, s) || !d.at.Before(s.Expires) {
		return nil, api.Errorf(api.CodeConflict, "upload session %q has ended", id).
			WithHint("its chunks may be gone: open a session, store the chunks under it, and put the object again")
	}
	return s, nil
}

func (d *decision) saveSession(s *api.UploadSession) Result {
	s.Expires = d.at.Add(api.SessionLifetime)
	d.set[sessionKeys+s.ID] = encodeRow(s, nil)
	return Result{Session: s}
}

// openSession gives the bucket too: it says how what is stored under the session is to be kept.
func (d *decision) openSession(c *OpenSession) Result {
	b, err := d.bucket(c.Bucket)
	if err = firstOf(checkID(c.ID), err); err != nil {
		return refused(err)
	}
	if d.get(sessionKeys+c.ID) != nil {
		return refused(api.Errorf(api.CodeConflict, "upload session %q exists already", c.ID).WithHint("use another id"))
	}
	if d.number(sessionKeys, api.MaxUploadSessions) >= api.MaxUploadSessions {
		return refused(api.Errorf(api.CodeRateLimited, "there are %d uploads under way, no more are allowed", api.MaxUploadSessions).WithHint("try again later"))
	}
	r := d.saveSession(&api.UploadSession{ID: c.ID, Bucket: c.Bucket, Terms: termsOf(b)})
	r.Bucket = b
	return r
}

func (d *decision) renewSession(c *RenewSession) Result {
	s, err := d.session(c.ID)
	if err != nil {
		return refused(err)
	}
	for _, b := range c.Chunks {
		chunk, bad := digestOf(b)
		if bad != nil {
			return refused(bad)
		}
		if d.get(namedKey(c.ID, chunk)) == nil {
			d.set[namedKey(c.ID, chunk)] = []byte{}
			d.rename(chunk, s.Terms, renaming{by: 1})
			s.Chunks++
		}
	}
	if s.Chunks > api.MaxSessionChunks {
		return refused(api.Errorf(api.CodeTooLarge, "session %q would name %d chunks, at most %d are allowed", c.ID, s.Chunks, api.MaxSessionChunks).
			WithHint("put the object in parts, each with a session of its own"))
	}
	return d.saveSession(s)
}

func (d *decision) endSession(c *EndSession) Result {
	return Result{Removed: d.dropSession(c.ID)}
}

// dropSession removes a session with what it names.
func (d *decision) dropSession(id string) int {
	s := &api.UploadSession{}
	if !d.read(sessionKeys+id, s) {
		return 0
	}
	d.set[sessionKeys+id] = nil
	prefix := namedBy(id)
	d.each(prefix, func(key string, _ []byte) error {
		if len(key) != len(prefix)+len(digest{}) {
			return damaged("a session names a chunk by %d bytes", len(key)-len(prefix))
		}
		d.set[key] = nil
		d.rename(digest([]byte(key[len(prefix):])), s.Terms, renaming{by: -1})
		return nil
	})
	return 1
}

func (d *decision) expireSessions(c *ExpireSessions) Result {
	if len(c.IDs) > MaxExpired {
		return refused(tooManyExpired(len(c.IDs)))
	}
	removed := 0
	for _, id := range c.IDs {
		s := &api.UploadSession{}
		if d.read(sessionKeys+id, s) && !d.at.Before(s.Expires) {
			removed += d.dropSession(id)
		}
	}
	return Result{Removed: removed}
}

func tooManyExpired(n int) *api.Error {
	return api.Errorf(api.CodeTooLarge, "%d rows to expire, at most %d are allowed at once", n, MaxExpired)
}

// under checks that chunks may be named: their session is alive, so that no node has collected them. It
// ends the session when told to. Without chunks none is needed.
func (d *decision) under(id string, chunks int, end bool) *api.Error {
	if chunks == 0 && id == "" {
		return nil
	}
	if _, err := d.session(id); err != nil {
		return err
	}
	if end {
		d.dropSession(id)
	}
	return nil
}
