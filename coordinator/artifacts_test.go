package coordinator

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// What is under a digest has it, on whichever coordinator it is asked for, and only what was stored can
// be named.
func TestAnArtifactIsNamedWhenItIsStored(t *testing.T) {
	c := newCluster(t, 3)
	digest, err := upload(t, c.servers[1], "a module")
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range c.servers {
		c.eventually("the row", func() bool { _, err := s.Artifact(t.Context(), digest); return err == nil })
		r, err := s.openArtifact(t.Context(), digest)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(r); string(text) != "a module" || err != nil {
			t.Errorf("coordinator %d gives %q, %v", i, text, err)
		}
	}
	s := c.servers[0]
	large := bytes.Repeat([]byte("x"), api.MaxInlineBytes+1)
	other, largeDigest := digestOf([]byte("another")), digestOf(large)
	for name, tt := range map[string]struct {
		digest, kind, session string
		body                  []byte
		want                  api.Code
	}{
		"other bytes":    {other, api.ArtifactWasm, "", []byte("not another"), api.CodeUnsupMedia},
		"no digest":      {"sha256:x", api.ArtifactWasm, "", nil, api.CodeInvalid},
		"no kind":        {other, "zip", "", nil, api.CodeInvalid},
		"no manifest":    {other, api.ArtifactWasm, "u-1", []byte("no manifest"), api.CodeInvalid},
		"nobody to keep": {largeDigest, api.ArtifactWasm, "", large, api.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.PutArtifact(t.Context(), admin, tt.digest, tt.kind, tt.session, bytes.NewReader(tt.body))
			if api.CodeOf(err) != tt.want {
				t.Errorf("%v", err)
			}
			if _, err := s.Artifact(t.Context(), tt.digest); api.CodeOf(err) != api.CodeNotFound {
				t.Errorf("it can be named: %v", err)
			}
		})
	}
}

// The bytes of artifacts change by uploads of artifacts and by nothing else.
func TestTheClustersOwnBucketIsNobodyElses(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	digest, err := upload(t, s, "a module")
	if err != nil {
		t.Fatal(err)
	}
	key := api.ArtifactKey(digest)
	put := api.ObjectPut{Bucket: api.ArtifactBucket, Key: key, Size: 1}
	_, putErr := s.PutObject(t.Context(), admin, put, strings.NewReader("x"))
	_, commitErr := s.CommitUpload(t.Context(), admin, "u-1", put, nil)
	_, expireErr := s.PutBucket(t.Context(), admin, api.Bucket{Name: api.ArtifactBucket, Expiry: api.Duration(time.Second)}, false, 0)
	for what, err := range map[string]error{
		"put": putErr, "commit": commitErr, "let expire": expireErr, "delete": s.DeleteObject(t.Context(), admin, api.ArtifactBucket, key, ""), "drop": s.DeleteBucket(t.Context(), admin, api.ArtifactBucket, 0),
	} {
		if api.CodeOf(err) != api.CodeForbidden {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// An artifact goes when nothing has named it for a while; what a version of a workload names stays.
func TestArtifactsGoWhenNothingNamesThem(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	used, err := upload(t, s, "used")
	if err != nil {
		t.Fatal(err)
	}
	idler, err := upload(t, s, "not used")
	if err != nil {
		t.Fatal(err)
	}
	none := 0
	w := api.Workload{APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Name: "hi", Namespace: "default"}}
	w.Spec = api.WorkloadSpec{Replicas: &none, Wasm: &api.WasmSpec{Module: used, Mode: api.ModeHTTP}}
	w.Default()
	do(t, s, state.Command{PutWorkload: &state.PutWorkload{Workload: w, UID: "w-1"}})
	now, unused := time.Now(), map[string]time.Time{}
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {unusedFor - 1, 0}, {unusedFor, 1}} {
		if got := idle(s.store.View(), unused, now.Add(step.after)); len(got) != step.want || len(got) == 1 && got[0] != idler {
			t.Errorf("after %v: %v", step.after, got)
		}
	}
	if err := s.removeArtifact(t.Context(), idler); err != nil {
		t.Fatal(err)
	}
	if err := s.removeArtifact(t.Context(), used); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("what is named: %v", err)
	}
	for digest, want := range map[string]api.Code{idler: api.CodeNotFound, used: ""} {
		if _, err := s.openArtifact(t.Context(), digest); api.CodeOf(err) != want {
			t.Errorf("%s: %v", digest, err)
		}
	}
	if idle(s.store.View(), unused, now); len(unused) != 0 {
		t.Errorf("still counted: %v", unused)
	}
}

// An artifact of an earlier version, whose bytes were on the coordinators, is uploaded again before it
// is named.
func TestAnArtifactOfAnEarlierVersionIsAskedForAgain(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	digest := digestOf([]byte("old"))
	do(t, s, state.Command{PutArtifact: &api.Artifact{Digest: digest, Size: 3, Kind: api.ArtifactWasm, Holders: []string{s.id.ID}}})
	if _, err := s.Artifact(t.Context(), digest); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("%v", err)
	}
	if _, err := upload(t, s, "old"); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Artifact(t.Context(), digest); err != nil || len(a.Holders) > 0 {
		t.Errorf("%+v, %v", a, err)
	}
}
