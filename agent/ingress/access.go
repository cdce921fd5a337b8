package ingress

import (
	"net/http"
	"time"

	"github.com/cloudless/cloudless/sandbox"
)

// Access is one request as it ended here.
type Access struct {
	Method, Host, Path, Client string
	Peer                       bool   // it came by another node's ingress, which tells of it too
	Service                    string // namespace/name; "" if no workload has the host, and for a peer's request
	Replica, Node              string // who answered, or was asked last; node is "" when it is here

	Status int
	Bytes  int64 // of the response's body
	Took   time.Duration
	Cost   sandbox.Cost // of a replica on this node
}

// logged has requests told when they end: all to Access, the users' to Observe.
func (in *Ingress) logged(peer bool, next func(*writer, *http.Request)) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := newWriter(rw, r)
		defer func() {
			took := w.end()
			if in.cfg.Observe != nil && !peer {
				in.cfg.Observe("ingress", w.body.bytes.Load(), w.bytes, took)
			}
			if in.cfg.Access != nil {
				in.cfg.Access(w.access(r, peer, took))
			}
		}()
		next(w, r)
	})
}

func (w *writer) access(r *http.Request, peer bool, took time.Duration) Access {
	a := Access{
		Method: r.Method, Host: hostOf(r.Host), Path: r.URL.Path, Client: r.RemoteAddr, Peer: peer,
		Replica: w.asked.replicaID, Node: w.asked.nodeID, Status: w.code(), Bytes: w.bytes, Took: took,
	}
	if w.route != nil {
		a.Service = w.route.namespace + "/" + w.route.service
	}
	if w.cost != nil {
		a.Cost = *w.cost
	}
	return a
}
