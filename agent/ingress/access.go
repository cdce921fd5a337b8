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

// logged has requests told to Access when they end.
func (in *Ingress) logged(peer bool, next func(*writer, *http.Request)) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := newWriter(rw)
		defer w.end()
		if in.cfg.Access == nil {
			next(w, r)
			return
		}
		ctx, cost := sandbox.WithCost(r.Context())
		start := time.Now()
		defer func() {
			in.cfg.Access(Access{
				Method: r.Method, Host: hostOf(r.Host), Path: r.URL.Path, Client: r.RemoteAddr, Peer: peer,
				Service: w.service, Replica: w.asked.replicaID, Node: w.asked.nodeID,
				Status: w.code(), Bytes: w.bytes, Took: time.Since(start), Cost: *cost,
			})
		}()
		next(w, r.WithContext(ctx))
	})
}
