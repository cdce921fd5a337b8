package coordinator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/chunkstore/split"
	"github.com/cloudless/cloudless/coordinator/state"
)

// Modules and image tarballs are objects of the cluster's own bucket, by their digests. The state has a
// row for each whose bytes were held against its digest: workloads may name those and no others.

// Artifact finds what the cluster's store holds.
func (s *Server) Artifact(_ context.Context, digest string) (api.Artifact, error) {
	a, ok := s.store.View().Artifact(digest)
	if !ok || len(a.Holders) > 0 {
		return api.Artifact{}, api.Errorf(api.CodeNotFound, "no artifact %s", digest)
	}
	return *a, nil
}

// PutArtifact stores what r gives under its digest: the bytes themselves, or the manifest of chunks that
// an upload session has stored. Nothing names them before all of them have had the digest.
func (s *Server) PutArtifact(ctx context.Context, c api.Caller, digest, kind, session string, r io.Reader) (api.Artifact, error) {
	if !api.IsDigest(digest) {
		return api.Artifact{}, api.Errorf(api.CodeInvalid, "digest: %q is not sha256: and 64 hex digits", digest)
	}
	if kind != api.ArtifactWasm && kind != api.ArtifactOCI {
		return api.Artifact{}, api.Errorf(api.CodeInvalid, "kind: %q is not wasm or oci", kind)
	}
	if err := s.ensureArtifacts(ctx); err != nil {
		return api.Artifact{}, err
	}
	put := gateway.PutObject{Bucket: api.ArtifactBucket, Key: api.ArtifactKey(digest), Size: -1}
	o, err := s.storeArtifact(ctx, put, digest, kind, session, r)
	if err != nil {
		return api.Artifact{}, err
	}
	row := &api.Artifact{Digest: digest, Size: o.Size, Kind: kind}
	if _, _, err := s.propose(ctx, state.Command{By: &c, PutArtifact: row}); err != nil {
		return api.Artifact{}, err
	}
	return s.Artifact(ctx, digest)
}

func (s *Server) storeArtifact(ctx context.Context, put gateway.PutObject, digest, kind, session string, r io.Reader) (*api.Object, error) {
	if session == "" {
		return s.gateway.Put(ctx, put, newDigested(r, digest))
	}
	encoded, err := io.ReadAll(io.LimitReader(r, api.MaxCommitBytes))
	if err != nil {
		return nil, err
	}
	m, err := split.Decode(encoded)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "the manifest cannot be read: %w", err)
	}
	if limit := api.ArtifactLimit(kind); m.Size() > limit {
		return nil, api.Errorf(api.CodeTooLarge, "the %s artifact is over %s", kind, api.Bytes(limit))
	}
	body := s.gateway.Preview(m).Range(ctx, 0, -1)
	_, err = io.Copy(io.Discard, newDigested(body, digest))
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	return s.gateway.Commit(ctx, session, put, m)
}

// ensureArtifacts makes the bucket of artifacts, unless it is there.
func (s *Server) ensureArtifacts(ctx context.Context) error {
	_, err := s.readMeta(ctx, meta.Query{Bucket: api.ArtifactBucket})
	if api.CodeOf(err) != api.CodeNotFound {
		return err
	}
	_, err = s.applyOne(ctx, meta.Command{CreateBucket: &api.Bucket{Name: api.ArtifactBucket, Chunking: api.ChunkingContent}})
	if api.CodeOf(err) == api.CodeConflict { // another has been quicker
		return nil
	}
	return err
}

// openArtifact reads what is stored under a digest.
func (s *Server) openArtifact(ctx context.Context, digest string) (io.ReadCloser, error) {
	r, err := s.gateway.Open(ctx, api.ArtifactBucket, api.ArtifactKey(digest))
	if err != nil {
		return nil, err
	}
	return r.Range(ctx, 0, -1), nil
}

// digested ends with an error in place of io.EOF unless what was read has a digest.
type digested struct {
	r    io.Reader
	hash hash.Hash
	want string
}

func newDigested(r io.Reader, digest string) *digested { return &digested{r, sha256.New(), digest} }

// Read reads.
func (d *digested) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.hash.Write(p[:n])
	if errors.Is(err, io.EOF) {
		if got := "sha256:" + hex.EncodeToString(d.hash.Sum(nil)); got != d.want {
			return n, api.Errorf(api.CodeUnsupMedia, "the bytes are %s, announced was %s", got, d.want).WithHint("the file changed while it was read, or on its way; upload it again")
		}
	}
	return n, err
}
