package coordinator

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

// madeS3Key waits until there is a sealing key, which the leader makes when it has founded the cluster.
func madeS3Key(t *testing.T, s *Server, r api.TokenRequest) api.Token {
	t.Helper()
	eventually(t, "a sealing key", func() bool { return s.sealHeld() != "" })
	tok, err := s.CreateToken(t.Context(), admin, r)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func requestOf(tok api.Token, day time.Time) api.SigningKeyRequest {
	return api.SigningKeyRequest{AccessKey: tok.ID, Date: day.UTC().Format(signingDay), Region: "eu-west-1"}
}

// The derived key of the example in AWS's description of Signature Version 4, for S3.
func TestTheSigningKeyIsThatOfTheExample(t *testing.T) {
	got := hex.EncodeToString(deriveSigningKey("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1"))
	if want := "dbb893acc010964918f1fd433add87c70e8b0db6be30c1fbeafefa5ec6ba8378"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAnS3KeyHasTheFormThatClientsExpect(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	tok := madeS3Key(t, s, api.TokenRequest{S3: true, Bucket: "photos", ReadOnly: true})
	if !regexp.MustCompile(`^CLDL[A-Z2-7]{16}$`).MatchString(tok.ID) || !regexp.MustCompile(`^[a-z2-7]{40}$`).MatchString(tok.Secret) {
		t.Errorf("access key %q, secret of %d characters", tok.ID, len(tok.Secret))
	}
	for name, r := range map[string]api.TokenRequest{
		"with a role": {S3: true, Role: api.RoleAdmin}, "with uses": {S3: true, Uses: 1}, "with a name": {S3: true, Name: "a"}, "of no bucket's name": {S3: true, Bucket: "A"},
		"a bucket without s3": {Role: api.RoleViewer, Bucket: "photos"}, "read-only without s3": {Role: api.RoleViewer, ReadOnly: true},
	} {
		if _, err := s.CreateToken(t.Context(), admin, r); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who has the state, a list of it, or the data folder has no secret.
func TestTheSecretOfAnS3KeyIsSealed(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	tok := madeS3Key(t, s, api.TokenRequest{S3: true})
	list, err := s.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shown, _ := json.Marshal(list)                   // tokens can be
	kept, _ := json.Marshal(s.store.View().Tokens()) //
	err = filepath.WalkDir(s.cfg.DataDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(tok.Secret)) {
			t.Errorf("%s has the secret", path)
		}
		return err
	})
	if err != nil || strings.Contains(string(kept), tok.Secret) || strings.Contains(string(shown), tok.Secret) || strings.Contains(string(shown), "sealed") {
		t.Errorf("the secret is shown, or %v", err)
	}
	if !strings.Contains(string(shown), tok.ID) || !strings.Contains(string(kept), "sealed") {
		t.Error("the list lacks the key, or the state its secret")
	}
	fi, err := os.Stat(s.keyPath(s.sealHeld(), suffixSeal))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
}

// A sealed secret is of its row: moved to another, or changed, it cannot be opened.
func TestASealedSecretIsBoundToItsRow(t *testing.T) {
	key, other := bytes.Repeat([]byte{7}, sealBytes), bytes.Repeat([]byte{8}, sealBytes)
	data, err := seal(key, "A", "secret")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := unseal(key, "A", data); err != nil || got != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	bad := bytes.Clone(data)
	bad[len(bad)-1] ^= 1
	for name, f := range map[string]func() (string, error){
		"another row": func() (string, error) { return unseal(key, "B", data) }, "another key": func() (string, error) { return unseal(other, "A", data) },
		"a flipped bit": func() (string, error) { return unseal(key, "A", bad) }, "cut short": func() (string, error) { return unseal(key, "A", data[:5]) },
	} {
		if got, err := f(); err == nil {
			t.Errorf("%s: opened as %q", name, got)
		}
	}
}

// What an agent gets is the key of a day and region, never the secret, and only while the key is good.
func TestASigningKeyIsGivenWhileTheKeyIsGood(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	now := time.Now()
	tok := madeS3Key(t, s, api.TokenRequest{S3: true, Bucket: "photos", ReadOnly: true, TTL: api.Duration(time.Hour)})
	got, err := s.signingKey(t.Context(), requestOf(tok, now), now)
	if err != nil {
		t.Fatal(err)
	}
	want := deriveSigningKey(tok.Secret, now.UTC().Format(signingDay), "eu-west-1")
	if !bytes.Equal(got.Key, want) || got.Bucket != "photos" || !got.ReadOnly || got.Expires == nil {
		t.Errorf("%+v", got)
	}
	refuse := func(code api.Code, r api.SigningKeyRequest, at time.Time) {
		t.Helper()
		if _, err := s.signingKey(t.Context(), r, at); api.CodeOf(err) != code {
			t.Errorf("%+v: %v, want %s", r, err, code)
		}
	}
	for off, ok := range map[int]bool{-2: false, -1: true, 0: true, 1: true, 2: false} {
		if _, err := s.signingKey(t.Context(), requestOf(tok, now.AddDate(0, 0, off)), now); (err == nil) != ok {
			t.Errorf("%d days off: %v", off, err)
		}
	}
	long := requestOf(tok, now)
	long.Region = strings.Repeat("r", api.MaxRegionLen)
	if _, err := s.signingKey(t.Context(), long, now); err != nil {
		t.Error(err)
	}
	long.Region += "r"
	refuse(api.CodeInvalid, long, now)
	refuse(api.CodeInvalid, api.SigningKeyRequest{AccessKey: tok.ID, Date: "today"}, now)
	refuse(api.CodeUnauthorized, requestOf(tok, *tok.ExpiresAt), *tok.ExpiresAt)
	refuse(api.CodeUnauthorized, requestOf(api.Token{ID: "CLDLNONE"}, now), now)
	person, err := s.CreateToken(t.Context(), admin, api.TokenRequest{Role: api.RoleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	refuse(api.CodeUnauthorized, requestOf(person, now), now)
	if err := s.RevokeToken(t.Context(), admin, tok.ID); err != nil {
		t.Fatal(err)
	}
	refuse(api.CodeUnauthorized, requestOf(tok, now), now)
}

func TestAnS3KeyIsNoBearerToken(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	tok := madeS3Key(t, s, api.TokenRequest{S3: true})
	for _, text := range []string{tok.ID, tok.Secret, "cl_" + tok.ID + "_" + tok.Secret, "cl_" + tok.ID + "_"} {
		if _, err := s.Authenticate(t.Context(), text); api.CodeOf(err) != api.CodeUnauthorized {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Every coordinator holds the sealing key, also after a restart, and each can tell of any key.
func TestTheSealingKeyGoesToEveryCoordinator(t *testing.T) {
	c := newCluster(t, 3)
	now := time.Now()
	for i := range c.servers {
		c.eventually("coordinator to hold the sealing key", func() bool { return c.servers[i].sealHeld() != "" })
	}
	tok := madeS3Key(t, c.servers[2], api.TokenRequest{S3: true})
	c.stop(1)
	c.start(1)
	c.eventually("the state after a restart", func() bool { return c.servers[1].Ready(t.Context()) == nil })
	for i, s := range c.servers {
		if _, err := s.signingKey(t.Context(), requestOf(tok, now), now); err != nil {
			t.Errorf("coordinator %d: %v", i, err)
		}
	}
}

// A key that fewer than half of the coordinators hold could be lost with them: nothing is sealed with it.
func TestNothingIsSealedWithAKeyThatCouldBeLost(t *testing.T) {
	c := newCluster(t, 3)
	c.eventually("a sealing key", func() bool { return c.servers[0].sealHeld() != "" })
	id := c.servers[0].sealHeld()
	c.eventually("a majority to hold it", func() bool { return c.servers[0].sealKeyIsSafe(t.Context(), id) == nil })
	c.stop(1)
	c.stop(2)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.servers[0].sealKeyIsSafe(ctx, id); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("%v", err)
	}
}

func TestASealingKeyIsCheckedAgainstItsName(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	key := bytes.Repeat([]byte{7}, sealBytes)
	for name, err := range map[string]error{"another name": s.holdSeal("00", key), "a short key": s.holdSeal(sealID(key[1:]), key[1:])} {
		if err == nil {
			t.Errorf("%s: held", name)
		}
	}
	if err := s.holdSeal(sealID(key), key); err != nil {
		t.Error(err)
	}
	again := &Server{cfg: s.cfg, id: s.id} // in a folder whose name is no pattern
	if err := again.openKeyring(s.trust.Load().issuer, nil); err != nil {
		t.Error(err)
	}
	if _, held := again.heldSeal(sealID(key)); !held {
		t.Error("the key is not found again")
	}
	file := s.keyPath(sealID(key), suffixSeal)
	if err := s.loadKey(file); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, key[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.loadKey(file); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("a damaged key: %v", err)
	}
}

// The first sealing key stays, also in a new epoch.
func TestTheSealingKeyStays(t *testing.T) {
	t.Parallel()
	s := openServer(t)
	madeS3Key(t, s, api.TokenRequest{S3: true})
	id := s.sealHeld()
	if _, _, err := s.propose(t.Context(), state.Command{SetSealKey: &state.ByID{ID: "other"}}); api.CodeOf(err) != api.CodeConflict {
		t.Error(err)
	}
	do(t, s, state.Command{Found: &state.Found{ClusterID: s.id.ClusterID, Epoch: s.store.View().Meta().Epoch + 1}})
	if got := s.store.View().Meta().SealKey; got != id {
		t.Errorf("%q, want %q", got, id)
	}
}
