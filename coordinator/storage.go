package coordinator

import (
	"context"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/chunkstore/transfer"
)

// metadata is the object store's metadata as the gateway asks for it.
type metadata struct{ s *Server }

// Apply implements gateway.Meta.
func (m metadata) Apply(ctx context.Context, cmds ...meta.Command) (*meta.Results, error) {
	return m.s.applyMeta(ctx, cmds...)
}

// Read implements gateway.Meta.
func (m metadata) Read(ctx context.Context, q meta.Query) (*meta.Answer, error) {
	return m.s.readMeta(ctx, q)
}

// openGateway opens the way of objects through this coordinator, which keeps no chunks of its own.
func (s *Server) openGateway(context.Context) error {
	s.chunks = &transfer.Client{Dial: s.nodes.Dial}
	s.gateway = gateway.New(gateway.Config{
		Meta: metadata{s}, Peers: s.chunks, Members: s.storeMembers, Short: func(digests ...string) { s.short.add(digests...) },
		Observe: s.observeStorage, Log: s.log,
	})
	return nil
}

// TakesObjects says why the store would not take an object now; nil when it does.
func (s *Server) TakesObjects(ctx context.Context) error {
	if _, err := s.readMeta(ctx, meta.Query{Bucket: api.ArtifactBucket}); err != nil {
		return err
	}
	for _, m := range s.storeMembers().Members {
		if m.State == api.StoreReady {
			return nil
		}
	}
	return api.Errorf(api.CodeUnavailable, "no node takes chunks").WithHint("start an agent; 'cloudless storage status' shows those there are")
}

func (s *Server) observeStorage(o gateway.Observation) {
	result := "ok"
	if o.Err != nil {
		result = "error"
	}
	s.tel().StorageOperations.Inc(o.Op, result)
	s.tel().StorageOperationDuration.Observe(o.Took.Seconds(), o.Op)
}
