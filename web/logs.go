package web

import (
	"cmp"
	"errors"
	"io"

	"github.com/cloudless/cloudless/api"
)

// logPiece is the most of a log that is read before it is sent on.
const logPiece = 32 << 10

func logOptions(c *call) (o api.LogOptions, err error) {
	o.Replica = c.query("replica")
	if o.Follow, err = c.flag("follow"); err != nil {
		return o, err
	}
	if o.Previous, err = c.flag("previous"); err != nil {
		return o, err
	}
	if o.Timestamps, err = c.flag("timestamps"); err != nil {
		return o, err
	}
	if o.Since, err = c.moment("since"); err != nil {
		return o, err
	}
	o.Tail, err = c.number("tail", -1, -1, 1<<30)
	return o, err
}

// logs streams a workload's log as text, which browsers must show as nothing else.
func (s *server) logs(c *call) error {
	opt, err := logOptions(c)
	if err != nil {
		return err
	}
	end, err := s.sessions.open(c.key())
	if err != nil {
		return err
	}
	defer end()
	ns, name := c.workload()
	log, err := s.backend.Logs(c.context(), ns, name, opt)
	if err != nil {
		return err
	}
	defer log.Close()
	out := newStream(c, "text/plain; charset=utf-8")
	return brokeStream(cmp.Or(copyText(out, log), c.context().Err())) // a log ends with the request, too
}

func copyText(out *outStream, from io.Reader) error {
	buf := make([]byte, logPiece)
	for {
		n, err := from.Read(buf)
		if sent := out.send(buf[:n]); sent != nil {
			return sent
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
