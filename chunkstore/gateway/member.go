package gateway

import (
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/place"
)

// PlaceMembers gives the nodes as place knows them. A state that it does not know takes nothing.
func PlaceMembers(members []api.StoreMember) []place.Member {
	out := make([]place.Member, len(members))
	for i, m := range members {
		out[i] = place.Member{ID: m.ID, Zone: m.Zone, Weight: m.Weight, State: placeState(m.State)}
	}
	return out
}

func placeState(s api.StoreMemberState) place.State {
	switch s {
	case api.StoreReady:
		return place.Ready
	case api.StoreDraining:
		return place.Draining
	case api.StoreLost:
		return place.Lost
	}
	return place.Full
}

// WriteCopies is how many copies of a bucket's chunks there are to be, and how many of them must be
// durable before a write is acknowledged.
func WriteCopies(b *api.Bucket, members int) (want, need int) {
	want, need = place.Copies(b.Replicas, members), place.Quorum(b.Replicas, members)
	if b.WriteQuorum > 0 {
		need = min(b.WriteQuorum, want)
	}
	return want, need
}

// CodecOf is how the chunks of a bucket are stored.
func CodecOf(b *api.Bucket) chunkstore.Codec {
	switch b.Compression {
	case api.CompressionNone:
		return chunkstore.Raw
	case api.CompressionZstd:
		return chunkstore.Zstd
	}
	return chunkstore.S2
}
