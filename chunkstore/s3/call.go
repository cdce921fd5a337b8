package s3

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// call is one request on its way.
type call struct {
	d           *door
	w           http.ResponseWriter
	r           *http.Request
	q           params
	id          string
	began       time.Time
	bucket, key string
	operation   string
	status      int // of the answer; 0 before it has begun
	sig         *signature
	grant       *api.SigningKey
	payload     string
}

func newCall(d *door, w http.ResponseWriter, r *http.Request) *call {
	var b [8]byte
	rand.Read(b[:]) // never fails
	c := &call{d: d, w: w, r: r, id: strings.ToUpper(hex.EncodeToString(b[:])), began: time.Now()}
	h := w.Header()
	h.Set("X-Amz-Request-Id", c.id)
	h.Set("X-Amz-Id-2", c.id)
	h.Set("Server", "Cloudless")
	return c
}

func (c *call) ctx() context.Context { return c.r.Context() }

// mayWrite gives the client a while from now on to take what is written next. It is called when something is: over
// HTTP/2 a deadline that passes ends the request, whether anything is to be written or not.
func (c *call) mayWrite(while time.Duration) {
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(while)) // not every writer of a test can
}

// respond begins the answer, which may be long after the request began.
func (c *call) respond(status int) error {
	c.status = status
	c.mayWrite(idleTimeout)
	c.w.WriteHeader(status)
	return nil
}

// xml answers with a document.
func (c *call) xml(status int, v any) {
	data, err := xml.Marshal(v)
	if err != nil { // no type here can fail
		c.d.log.Error().Err(err).Msg("an answer could not be written")
		status, data = http.StatusInternalServerError, nil
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/xml")
	h.Set("Content-Length", strconv.Itoa(len(xml.Header)+len(data)))
	_ = c.respond(status)
	_, _ = c.w.Write(append([]byte(xml.Header), data...)) // the client is gone; nobody is left to tell
}

// ok answers 200 with a document.
func (c *call) ok(v any) error {
	c.xml(http.StatusOK, v)
	return nil
}

// apply asks for one change.
func (c *call) apply(cmd meta.Command) (meta.Result, error) {
	results, err := c.d.backend.Meta().Apply(c.ctx(), cmd)
	if err != nil {
		return meta.Result{}, err
	}
	return results.First()
}

func (c *call) read(q meta.Query) (*meta.Answer, error) { return c.d.backend.Meta().Read(c.ctx(), q) }

// readBucket gives the bucket of the request.
func (c *call) readBucket() (*api.Bucket, error) {
	a, err := c.read(meta.Query{Bucket: c.bucket})
	if err != nil {
		return nil, err
	}
	return a.Bucket, nil
}
