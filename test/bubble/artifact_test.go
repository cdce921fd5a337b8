package bubble

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// uploadModule uploads as the command line does, under a digest, and gives how many chunks had to be sent.
func (c *coord) uploadModule(module []byte, digest string) (sent int, err error) {
	ctx, cancel := context.WithTimeout(c.w.t.Context(), putTime)
	defer cancel()
	session, err := c.OpenUpload(ctx, admin, api.ArtifactBucket)
	if err != nil {
		return 0, err
	}
	cutter, m, chunks := split.Cutter{Size: split.Small, ByContent: true}, split.Manifest{}, map[string][]byte{}
	for rest := module; len(rest) > 0; {
		n := cutter.Next(rest)
		chunk := split.Chunk{Digest: sha256.Sum256(rest[:n]), Bytes: n}
		m.Chunks = append(m.Chunks, chunk)
		chunks[chunk.Name()], rest = rest[:n], rest[n:]
	}
	var names []string
	for name := range chunks {
		names = append(names, name)
	}
	missing, err := c.MissingChunks(ctx, session.ID, names)
	if err != nil {
		return 0, err
	}
	for _, name := range missing {
		if err := c.PutChunk(ctx, session.ID, api.ArtifactBucket, name, bytes.NewReader(chunks[name])); err != nil {
			return 0, err
		}
	}
	_, err = c.PutArtifact(ctx, admin, digest, api.ArtifactWasm, session.ID, bytes.NewReader(m.Encode()))
	return len(missing), err
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// A module that was built again costs the chunks that have changed; what its bytes are is held against
// its digest before anything can name it; each node then has all of it without a coordinator's bytes.
func TestAChangedModuleMovesItsChangedChunks(t *testing.T) {
	small(t, 1, 3, func(w *world) {
		module := make([]byte, 3<<20)
		_, _ = rand.NewChaCha8([32]byte{7}).Read(module)
		l := w.mustLead()
		all, err := l.uploadModule(module, digestOf(module))
		w.check(err)
		changed := slices.Concat(module[:1<<20], []byte("other code"), module[1<<20:])
		again, err := l.uploadModule(changed, digestOf(changed))
		w.check(err)
		if all < 6 || again < 1 || again > 2 {
			w.t.Errorf("%d chunks of the module, %d of the changed one", all, again)
		}
		wrong := digestOf([]byte("something else"))
		if _, err := l.uploadModule(module, wrong); api.CodeOf(err) != api.CodeUnsupMedia {
			w.t.Errorf("bytes under another digest: %v", err)
		}
		if _, err := l.Artifact(w.t.Context(), wrong); api.CodeOf(err) != api.CodeNotFound {
			w.t.Errorf("they can be named: %v", err)
		}
		for _, want := range [][]byte{module, changed} {
			r, err := l.OpenObject(w.t.Context(), api.ArtifactBucket, api.ArtifactKey(digestOf(want)))
			w.check(err)
			if got, err := io.ReadAll(r.Range(w.t.Context(), 0, -1)); err != nil || !bytes.Equal(got, want) {
				w.t.Errorf("%d bytes are read of %d: %v", len(got), len(want), err)
			}
		}
	})
}
