package link

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Crowd bounds the connections of a server that strangers can reach. When there are too many, the one
// that has been without a request for longest gives way to the newest: who opens connections and says
// nothing, or begins heads that never end, pushes out its own. Connections of which a request is
// served stay; a new one is refused when all are such. It also ends requests that have been answered
// and of which the body never comes.
type Crowd struct {
	max     int
	mu      sync.Mutex
	members map[net.Conn]*attendant
	quiet   *list.List // of *attendant without a request, the longest first
}

// attendant is one connection.
type attendant struct {
	conn     net.Conn
	requests int
	place    *list.Element // in quiet; nil while it has requests
	taken    bool          // from the server, by a handler: its end is that of the handler
}

type attendantKey struct{}

// unreadTime is for what a handler has left of a request's body: the HTTP server reads it before it
// sends the answer, with no limit of its own.
const unreadTime = 30 * time.Second

// Limit bounds a server before it serves. It takes its ConnState and ConnContext.
func Limit(srv *http.Server, most int) *Crowd {
	c := &Crowd{max: shareOfFiles(most), members: map[net.Conn]*attendant{}, quiet: list.New()}
	next := srv.Handler
	srv.ConnState = c.changed
	srv.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		a, out := c.enter(conn) // ConnState hears of it later
		if out != nil {
			_ = raw(out).Close() // its server learns of it by reading
		}
		return context.WithValue(ctx, attendantKey{}, a)
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, _ := r.Context().Value(attendantKey{}).(*attendant); a != nil && c.began(a) {
			defer c.ended(a)
			next.ServeHTTP(w, r)
			if r.ContentLength != 0 {
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(unreadTime)) // fails on a connection that is gone
			}
		} // else it gave way while its head was read
	})
	return c
}

// shareOfFiles keeps connections of strangers to a quarter of the files that this process may open:
// the log and the other members need theirs.
func shareOfFiles(most int) int {
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil {
		return most
	}
	return int(min(uint64(most), max(files.Cur/4, 1)))
}

func (c *Crowd) changed(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateHijacked:
		c.mu.Lock()
		defer c.mu.Unlock()
		if a := c.members[conn]; a != nil {
			a.taken = true
		}
	case http.StateClosed:
		c.leave(conn)
	}
}

// raw is the connection below TLS: closing it waits for nobody.
func raw(conn net.Conn) net.Conn {
	if t, ok := conn.(*tls.Conn); ok {
		return t.NetConn()
	}
	return conn
}

// enter takes a connection in, and gives the one that has to go: itself when nobody can.
func (c *Crowd) enter(conn net.Conn) (a *attendant, out net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.members) >= c.max {
		if c.quiet.Len() == 0 {
			return nil, conn
		}
		gone := c.quiet.Remove(c.quiet.Front()).(*attendant)
		gone.place = nil
		delete(c.members, gone.conn)
		out = gone.conn
	}
	a = &attendant{conn: conn}
	a.place = c.quiet.PushBack(a)
	c.members[conn] = a
	return a, out
}

func (c *Crowd) leave(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.members[conn]; a != nil {
		if a.place != nil {
			c.quiet.Remove(a.place)
		}
		delete(c.members, conn)
	}
}

// began is false for a connection that had to go.
func (c *Crowd) began(a *attendant) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.members[a.conn] != a {
		return false
	}
	a.requests++
	if a.place != nil {
		c.quiet.Remove(a.place)
		a.place = nil
	}
	return true
}

func (c *Crowd) ended(a *attendant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.requests--
	if c.members[a.conn] != a || a.requests > 0 {
		return
	}
	if a.taken {
		delete(c.members, a.conn)
		return
	}
	a.place = c.quiet.PushBack(a)
}
