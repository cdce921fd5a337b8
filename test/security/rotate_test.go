package security

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
)

// load sends requests through an ingress, new connections and kept ones, until stopped; it reports
// every one that failed.
type load struct {
	sent, failed atomic.Int64
	first        atomic.Value
	stop         context.CancelFunc
	group        sync.WaitGroup
}

func (s *site) load(n *node, host string) *load {
	ctx, cancel := context.WithCancel(s.t.Context())
	l := &load{stop: cancel}
	for range 2 {
		l.group.Go(func() {
			for ctx.Err() == nil {
				res, err := get(ctx, n.ingress, host, "/")
				if ctx.Err() != nil {
					return
				}
				l.sent.Add(1)
				if err != nil {
					l.fail(err.Error())
					continue
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if ctx.Err() != nil {
					return // the test cut it off
				}
				if err != nil || res.StatusCode != http.StatusOK {
					l.fail(res.Status + " " + string(body))
				}
			}
		})
	}
	s.t.Cleanup(func() { cancel(); l.group.Wait() })
	return l
}

func (l *load) fail(why string) {
	l.failed.Add(1)
	l.first.CompareAndSwap(nil, why)
}

func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.group.Wait()
	if l.failed.Load() > 0 || l.sent.Load() == 0 {
		t.Errorf("%d of %d requests failed; the first: %v", l.failed.Load(), l.sent.Load(), l.first.Load())
	}
	t.Logf("%d requests", l.sent.Load())
}

// rotate replaces a key and waits until that is done.
func (s *site) rotate(kind api.RotationKind) api.Rotation {
	s.t.Helper()
	at := new(api.Duration)
	if _, err := s.admin.Rotate(s.t.Context(), api.RotationRequest{Kind: kind, Overlap: at}); err != nil {
		s.t.Fatal(err)
	}
	return s.rotated(kind)
}

func (s *site) rotated(kind api.RotationKind) (row api.Rotation) {
	s.t.Helper()
	s.eventually("the rotation of "+string(kind)+" is done", func() bool {
		list, err := s.coords[0].Rotations(s.t.Context())
		for _, r := range list.Items {
			if r.Kind == kind {
				row = r
			}
		}
		return err == nil && row.Phase == api.PhaseDone
	})
	return row
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v", path, info.Mode())
	}
	return string(data)
}

// Security 5: the CA is replaced under load, twice, and no request fails. Then the old CA opens
// nothing any more, tokens made before are refused with the reason, and new ones work.
func TestTheCAIsRotatedUnderLoad(t *testing.T) {
	s := newSite(t, 3, 2)
	s.deploy("hi", 1)
	_, other := s.home("hi")
	oldCA, oldNode := s.coords[0].CAPEM(), other.credentials(t)
	oldToken := s.token(api.TokenRequest{Role: api.RoleNode})
	l := s.load(other, "hi.localhost") // from one agent to the other
	for range 2 {
		s.rotate(api.RotateCA)
		s.admin = s.client(s.coords[0], s.adminToken()) // which trusts what ca.pem says now
	}
	l.end(t)

	fresh := s.coords[0].CAPEM()
	if bytes.Contains(fresh, oldCA) || strings.Count(string(fresh), "BEGIN CERTIFICATE") != 1 {
		t.Error("the old CA is still trusted")
	}
	for _, n := range s.agents {
		if read(t, n.dir, "ca.pem") != string(fresh) {
			t.Errorf("agent %s trusts another CA", n.name)
		}
	}
	for _, c := range s.coords {
		if read(t, c.dir, "ca.pem") != string(fresh) || read(t, c.dir, "ca.key") != read(t, s.coords[0].dir, "ca.key") {
			t.Errorf("coordinator %s has another CA", c.name)
		}
		for _, file := range []string{"raft", "audit.log"} {
			if found := grep(t, filepath.Join(c.dir, file), pemBody(read(t, c.dir, "ca.key"))); found != "" {
				t.Errorf("the CA's key is in %s", found)
			}
		}
	}
	if _, err := callNode(t, s.coords[0], oldNode, "POST", api.PathHeartbeat, api.Heartbeat{}, nil); err == nil {
		t.Error("a certificate of the old CA still opens the node API")
	}
	_, csr, err := pki.NewKeyCSR()
	if err != nil {
		t.Fatal(err)
	}
	req := api.EnrolRequest{Token: oldToken, Role: api.RoleNode, Name: "late", CSR: string(csr), Region: "eu", Zone: "z"}
	if _, err := link.Enrol(t.Context(), nil, []string{s.coords[0].node}, req); err == nil || !strings.Contains(err.Error(), "rotated") {
		t.Errorf("a token of the old CA: %v", err)
	}
	req.Token = s.token(api.TokenRequest{Role: api.RoleNode})
	if _, err := link.Enrol(t.Context(), nil, []string{s.coords[1].node}, req); err != nil {
		t.Errorf("a token of the new CA: %v", err)
	}
}

// While both CAs are trusted, tokens and clients that know only the old one go on working, and those
// that join get both.
func TestDuringTheOverlapTheOldCAStillServes(t *testing.T) {
	s := newSite(t, 1, 1)
	token := s.token(api.TokenRequest{Role: api.RoleNode})
	overlap := api.Duration(patience * 10)
	if _, err := s.admin.Rotate(t.Context(), api.RotationRequest{Kind: api.RotateCA, Overlap: &overlap}); err != nil {
		t.Fatal(err)
	}
	s.eventually("the node's certificate is from the new CA", func() bool {
		list, err := s.admin.Rotations(t.Context()) // a client that trusts the old CA alone
		return err == nil && len(list.Items) == 1 && list.Items[0].Phase == api.PhaseUse &&
			signedBy(readQuiet(s.agents[0].dir, "node.pem"), list.Items[0].NewCert)
	})
	late := s.addAgent(token) // a token that names the old CA
	if got := read(t, late.dir, "ca.pem"); strings.Count(got, "BEGIN CERTIFICATE") != 2 {
		t.Errorf("who joins trusts %q", got)
	}
	if _, err := s.admin.Rotate(t.Context(), api.RotationRequest{Kind: api.RotateCA}); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a second rotation at the same time: %v", err)
	}
	s.addCoordinator([]string{s.coords[0].node}, s.token(api.TokenRequest{Role: api.RoleServer}))
	s.eventually("a coordinator that joined meanwhile has both keys", func() bool {
		files, _ := filepath.Glob(filepath.Join(s.coords[1].dir, "keys", "*.key"))
		return len(files) >= 1 && strings.Count(string(s.coords[1].CAPEM()), "BEGIN CERTIFICATE") == 2
	})
}

// Security 6: the gossip key is replaced under load; everybody forgets the old one.
func TestTheGossipKeyIsRotatedUnderLoad(t *testing.T) {
	s := newSite(t, 2, 2)
	s.deploy("hi", 1)
	_, other := s.home("hi")
	old := read(t, s.coords[0].dir, "gossip.key")
	l := s.load(other, "hi.localhost")
	away := s.agents[0]
	if away == other {
		away = s.agents[1]
	}
	for range 3 {
		s.rotate(api.RotateGossip)
	}
	l.end(t)
	fresh := read(t, s.coords[0].dir, "gossip.key")
	if fresh == old {
		t.Fatal("the key is the old one")
	}
	for _, dir := range []string{s.coords[0].dir, s.coords[1].dir, s.agents[0].dir, s.agents[1].dir} {
		var ring []string
		if err := json.Unmarshal([]byte(read(t, dir, "gossip.keyring")), &ring); err != nil || len(ring) != 1 || ring[0] != fresh {
			t.Errorf("%s: keyring of %d keys (%v)", dir, len(ring), err)
		}
		if read(t, dir, "gossip.key") != fresh {
			t.Errorf("%s: another key", dir)
		}
		if found := grep(t, filepath.Join(dir, "raft"), fresh); found != "" {
			t.Errorf("the gossip key is in %s", found)
		}
	}

	// A node that was away finds the key when it comes back, and is heard in gossip again.
	away.close()
	s.rotate(api.RotateGossip)
	back := s.openAgent(away.dir, away.name, "")
	s.eventually("the node that was away gossips with the new key", func() bool {
		n, err := s.admin.Node(t.Context(), back.ID(), 0, 0)
		return err == nil && n.Status != nil && n.Status.Gossip == "alive" && strings.Contains(readQuiet(back.dir, "gossip.key"), readQuiet(s.coords[0].dir, "gossip.key"))
	})
}

func readQuiet(dir, name string) string {
	data, _ := os.ReadFile(filepath.Join(dir, name)) // it may be in the middle of being replaced
	return string(data)
}

// signedBy tells whether a CA signed a certificate, PEM both.
func signedBy(cert, ca string) bool {
	var parsed [2]*x509.Certificate
	for i, text := range []string{cert, ca} {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return false
		}
		var err error
		if parsed[i], err = x509.ParseCertificate(block.Bytes); err != nil {
			return false
		}
	}
	return parsed[0].CheckSignatureFrom(parsed[1]) == nil
}

// pemBody is one line from the middle of a PEM file.
func pemBody(pem string) string { return strings.Split(pem, "\n")[1] }

// grep looks for a text in every file under a path and names the first that has it.
func grep(t *testing.T, root, text string) (found string) {
	t.Helper()
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() || found != "" {
			if os.IsNotExist(err) {
				return nil // removed while we looked
			}
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte(text)) {
			found = path
		}
		if os.IsNotExist(err) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (s *site) adminToken() string {
	s.t.Helper()
	return strings.TrimSpace(readQuiet(s.coords[0].dir, "admin.token"))
}
