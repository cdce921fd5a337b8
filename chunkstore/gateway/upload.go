package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/place"
	"github.com/cloudless/cloudless/chunkstore/split"
	"github.com/cloudless/cloudless/internal/run"
)

// An upload in steps is for a client that cuts the object itself: it begins a session, asks which of
// its chunks are missing, puts those, and commits the manifest. After a break it asks again and goes on
// with what is still missing. Each step renews the session.

// MaxMissing is how many chunks may be asked about at once.
const MaxMissing = 10_000

// Begin opens an upload session.
func (g *Gateway) Begin(ctx context.Context, bucket string) (*api.UploadSession, error) {
	session, _, err := g.openSession(ctx, bucket)
	return session, err
}

// Missing gives those of the chunks that too few of their nodes have, in the order asked. The others
// are kept for the session from now on.
func (g *Gateway) Missing(ctx context.Context, session string, digests []string) ([]string, error) {
	if len(digests) > MaxMissing {
		return nil, api.Errorf(api.CodeTooLarge, "%d chunks asked about, at most %d are allowed at once", len(digests), MaxMissing).WithHint("ask in portions")
	}
	for _, d := range digests {
		if _, err := chunkstore.ParseDigest(d); err != nil {
			return nil, err
		}
	}
	b, err := g.renew(ctx, session)
	if err != nil {
		return nil, err
	}
	missing, _ := g.missing(ctx, b, SessionOwner(session), digests) // who is silent is asked to store them
	return missing, nil
}

// renew has a session live on, and gives its bucket.
func (g *Gateway) renew(ctx context.Context, session string) (*api.Bucket, error) {
	result, err := g.apply(ctx, meta.Command{RenewSession: &meta.RenewSession{ID: session}})
	if err != nil {
		return nil, err
	}
	return g.bucket(ctx, result.Session.Bucket)
}

// missing pins chunks on the nodes that are to have them, and gives those that fewer have than are
// needed. A node that does not answer has none; silent says so, if that may be why some are missing.
func (g *Gateway) missing(ctx context.Context, b *api.Bucket, owner string, digests []string) (missing []string, silent error) {
	members := g.cfg.Members().Members
	nodes := PlaceMembers(members)
	want, need := WriteCopies(b, len(members))
	copies := make(map[string]int, len(digests))
	asked := map[string][]string{}
	for _, d := range digests {
		if _, again := copies[d]; again {
			continue
		}
		copies[d] = 0
		for _, node := range mayHave(d, nodes, b.Replicas) {
			asked[node] = append(asked[node], d)
		}
	}
	held, silent := g.refAll(ctx, owner, asked)
	for _, has := range held {
		for _, d := range has {
			copies[d]++
		}
	}
	var short []string
	for _, d := range digests {
		if n := copies[d]; n < need || need == 0 {
			missing = append(missing, d)
		} else if n < want {
			short = append(short, d)
		}
	}
	if len(short) > 0 {
		g.cfg.Short(short...)
	}
	return missing, silent
}

// mayHave are the nodes where a chunk is to be, and where it would be if the full and the suspect took
// chunks too: they keep what they were given before.
func mayHave(digest string, nodes []place.Member, replicas int) []string {
	keepers := slices.Clone(nodes)
	for i, m := range keepers {
		if m.State == place.Full {
			keepers[i].State = place.Ready
		}
	}
	both := append(place.Choose(digest, nodes, replicas), place.Choose(digest, keepers, replicas)...)
	slices.Sort(both)
	return slices.Compact(both)
}

// refAll pins on each node what it is asked for, all at once, and gives what each has. The error is of
// the nodes that did not answer.
func (g *Gateway) refAll(ctx context.Context, owner string, asked map[string][]string) (held [][]string, silent error) {
	answers := make(chan []string, len(asked))
	failed := make(chan error, len(asked))
	group := run.New(ctx)
	for node, digests := range asked {
		group.Go("ask for chunks", func(ctx context.Context) error {
			absent, err := g.cfg.Peers.Ref(ctx, node, owner, digests...)
			if err != nil {
				failed <- fmt.Errorf("node %s does not say which chunks it has: %w", node, err)
				return nil
			}
			answers <- without(digests, absent)
			return nil
		})
	}
	_ = group.Wait() // its members do not fail
	close(answers)
	close(failed)
	for has := range answers {
		held = append(held, has)
	}
	for err := range failed {
		silent = errors.Join(silent, err)
	}
	return held, silent
}

// without are those of all that are not in some.
func without(all, some []string) []string {
	gone := make(map[string]bool, len(some))
	for _, s := range some {
		gone[s] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return gone[s] })
}

// PutChunk stores a chunk for a session.
func (g *Gateway) PutChunk(ctx context.Context, session, bucket, digest string, data []byte) (err error) {
	began := time.Now()
	defer func() { g.observed("put_chunk", began, int64(len(data)), err) }()
	if len(data) == 0 || len(data) > split.MaxChunkBytes {
		return api.Errorf(api.CodeTooLarge, "a chunk of %d bytes; one has 1 to %d", len(data), split.MaxChunkBytes)
	}
	buf := newBuffer(len(data)) // its copies may be on their way for longer than the caller keeps data
	defer buf.drop()
	buf.bytes = append(buf.bytes, data...)
	c := chunkstore.NewChunk(buf.bytes)
	if c.Digest != digest {
		return api.Errorf(api.CodeUnsupMedia, "the bytes are %s, announced was %s", c.Digest, digest).WithHint("the chunk was changed on its way; send it again")
	}
	b, err := g.bucket(ctx, bucket)
	if err != nil {
		return err
	}
	return g.spread(ctx, b, SessionOwner(session), c, buf)
}

// Commit makes or replaces an object by the chunks of a manifest, all of which must have been put, or
// found present, under the session. The session ends with it.
func (g *Gateway) Commit(ctx context.Context, session string, p PutObject, manifest *split.Manifest) (*api.Object, error) {
	if err := checkObject(p); err != nil {
		return nil, err
	}
	if size := manifest.Size(); p.Size >= 0 && size != p.Size {
		return nil, api.Errorf(api.CodeInvalid, "the manifest is of %d bytes, announced were %d", size, p.Size)
	}
	digests := make([]string, len(manifest.Chunks))
	for i, c := range manifest.Chunks {
		digests[i] = c.Name()
	}
	if err := g.pinAll(ctx, session, digests); err != nil {
		return nil, err
	}
	put := p.command(nil)
	put.Manifest, put.Session, put.End = manifest.Encode(), session, true
	return g.commit(ctx, nil, put)
}

// pinAll keeps chunks for a session, all of which must have been stored. Nodes that are silent may have
// them, so that is an error which passes.
func (g *Gateway) pinAll(ctx context.Context, session string, digests []string) error {
	b, err := g.renew(ctx, session)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(digests, MaxMissing) {
		missing, silent := g.missing(ctx, b, SessionOwner(session), part)
		switch {
		case len(missing) == 0:
		case silent != nil:
			return api.Errorf(api.CodeUnavailable, "%d chunks of the manifest are on too few nodes that answer, the first is %s: %w", len(missing), missing[0], silent).
				WithHint("commit again in a moment; if the nodes stay away, ask which chunks are missing, and put them")
		default:
			return api.Errorf(api.CodeConflict, "%d chunks of the manifest are not stored, the first is %s", len(missing), missing[0]).
				WithHint("ask which are missing, put them, and commit again")
		}
	}
	return nil
}
