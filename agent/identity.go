package agent

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
)

// Files of the data folder; all are 0600.
const (
	fileIdentity   = "identity.json"
	fileCA         = "ca.pem"
	fileCert       = "node.pem" // certificate and key, so that a crash cannot leave a pair that does not fit
	fileGossipKey  = "gossip.key"
	fileGossipRing = "gossip.keyring" // as Serf keeps it: the key in use first
)

func (a *Agent) path(name string) string { return filepath.Join(a.cfg.DataDir, name) }

func (a *Agent) openIdentity(ctx context.Context) error {
	data, err := os.ReadFile(a.path(fileIdentity))
	switch {
	case err == nil:
		err = a.loadIdentity(data)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case len(a.cfg.Join) == 0 || a.cfg.Token == "":
		return api.Errorf(api.CodeInvalid, "this node is in no cluster yet (there is no %s): --join and --token are needed", a.path(fileIdentity)).WithHint("make a token with 'cloudless token create --role node'")
	default:
		err = a.enrol(ctx)
	}
	if err != nil {
		return err
	}
	if err := a.creds.CheckClock(time.Now()); err != nil { // what runs goes on without coordinators
		a.log.Error().Err(err).Msg("no coordinator will accept this node")
	}
	return nil
}

func (a *Agent) loadIdentity(data []byte) error {
	if err := json.Unmarshal(data, &a.id); err != nil {
		return a.damaged(fileIdentity, err)
	}
	var files [3][]byte
	for i, name := range []string{fileCert, fileCA, fileGossipKey} {
		b, err := os.ReadFile(a.path(name))
		if err != nil {
			return a.damaged(name, err)
		}
		files[i] = b
	}
	a.key = string(files[2])
	if _, err := base64.StdEncoding.DecodeString(a.key); err != nil {
		return a.damaged(fileGossipKey, err)
	}
	var err error
	if a.creds, err = pki.NewCredentials(files[0], files[0], files[1]); err != nil {
		return a.damaged(fileCert+" or "+fileCA, err)
	}
	return nil
}

func (a *Agent) damaged(file string, err error) error {
	return datadir.Damaged(a.path(file), err, "remove the node ('cloudless node remove'), move the folder away and join again with --join and --token")
}

// enrol becomes a node of the cluster that the token names. The key is made here and stays here.
func (a *Agent) enrol(ctx context.Context) error {
	key, csr, err := pki.NewKeyCSR()
	if err != nil {
		return err
	}
	resp, err := link.Enrol(ctx, a.cfg.NetDial, a.cfg.Join, api.EnrolRequest{
		Token: a.cfg.Token, Role: api.RoleNode, CSR: string(csr), Name: a.cfg.Name, Region: a.cfg.Region, Zone: a.cfg.Zone, Labels: a.cfg.Labels, Taints: a.cfg.Taints,
	})
	if err != nil {
		return err
	}
	if err := a.ledger.SaveMembers(resp.Coordinators); err != nil {
		return err
	}
	a.id, a.key = Identity{ClusterID: resp.ClusterID, ID: resp.ID, Name: a.cfg.Name}, resp.GossipKey
	if a.creds, err = pki.NewCredentials([]byte(resp.Cert), key, []byte(resp.CA)); err != nil {
		return err
	}
	if err := a.saveKeys(slices.Concat([]byte(resp.Cert), key), []byte(resp.CA)); err != nil {
		return err
	}
	data, err := json.Marshal(a.id)
	if err != nil {
		return err
	}
	return errors.Join(datadir.WriteFile(a.path(fileGossipKey), []byte(a.key)), datadir.WriteFile(a.path(fileIdentity), data))
}

// takeKeys keeps a certificate with its key, and the CAs to trust, and uses them from then on: what cannot be
// kept, or does not fit, changes nothing.
func (a *Agent) takeKeys(pair, ca []byte) error {
	next, err := pki.NewCredentials(pair, pair, ca)
	if err != nil {
		return err
	}
	if id := next.Identity(); id != a.creds.Identity() {
		return api.Errorf(api.CodeInvalid, "the new certificate is for %s, not for %s", id, a.creds.Identity())
	}
	if err := a.saveKeys(pair, ca); err != nil {
		return err
	}
	return a.creds.Update(pair, pair, ca)
}

func (a *Agent) saveKeys(pair, ca []byte) error {
	for _, f := range keyFiles(a.creds.CAPEM(), pair, ca) {
		if err := datadir.WriteFile(a.path(f.name), f.data); err != nil {
			return err
		}
	}
	return nil
}

type file struct {
	name string
	data []byte
}

// keyFiles are what to write, one after the other. On the way the CAs of before are trusted too: whenever it
// ends, the certificate that is there is signed by one that is trusted.
func keyFiles(before, pair, ca []byte) []file {
	return []file{{fileCA, slices.Concat(before, ca)}, {fileCert, pair}, {fileCA, ca}}
}

// keepCertificate renews the leaf when a third of its life is left, by any coordinator that answers.
// Open connections are not touched.
func (a *Agent) keepCertificate(ctx context.Context) error {
	for a.creds.AwaitRenewal(ctx) == nil {
		a.trustMu.Lock()
		err := a.renewBy(func(in, out any) error { return a.sessions.call(ctx, api.PathRenew, in, out) })
		a.trustMu.Unlock()
		if err != nil {
			a.log.Warn().Err(err).Msg("certificate not renewed yet")
			if run.Sleep(ctx, 30*time.Second) != nil {
				return nil
			}
		}
	}
	return nil
}

// renewBy gets a new certificate through call and takes it up. a.trustMu is held.
func (a *Agent) renewBy(call func(in, out any) error) error {
	key, csr, err := pki.NewKeyCSR()
	if err != nil {
		return err
	}
	var resp api.RenewResponse
	if err := call(api.RenewRequest{CSR: string(csr)}, &resp); err != nil {
		return err
	}
	return a.takeKeys(slices.Concat([]byte(resp.Cert), key), []byte(resp.CA))
}

// keepTrust takes up the keys of the cluster that a coordinator has newer than this node. It also
// undoes what somebody with the gossip key did to the keyring by Serf's own commands.
func (a *Agent) keepTrust(ctx context.Context, s *session, index uint64) error {
	if !a.trustMu.TryLock() { // another session is at it; heartbeats must not wait
		return nil
	}
	defer a.trustMu.Unlock()
	if index > a.trusted.Load() {
		var b api.TrustBundle
		if _, err := s.get(ctx, callTimeout, api.PathTrust, &b); err != nil {
			return err
		}
		if err := a.takeTrust(ctx, s, &b); err != nil {
			return err
		}
		a.trusted.Store(b.Index)
		a.log.Info().Uint64("index", b.Index).Msg("keys of the cluster taken up")
	}
	if a.gossip.SameKeys(a.ring) {
		return nil
	}
	return a.gossip.SetKeys(a.ring)
}

func (a *Agent) takeTrust(ctx context.Context, s *session, b *api.TrustBundle) error {
	ring, err := parseRing(b.GossipKeys)
	if err != nil {
		return err
	}
	if a.creds.Issuer() != b.Issuer {
		err = a.renewBy(func(in, out any) error { return s.call(ctx, api.PathRenew, in, out) })
	} else if string(a.creds.CAPEM()) != b.CA {
		err = a.trustCAs([]byte(b.CA))
	}
	if err != nil {
		return err
	}
	data, err := json.Marshal(b.GossipKeys)
	if err != nil {
		return err
	}
	a.ring = ring
	return errors.Join(datadir.WriteFile(a.path(fileGossipRing), data), datadir.WriteFile(a.path(fileGossipKey), []byte(b.GossipKeys[0])))
}

// trustCAs keeps the certificate and replaces the CAs.
func (a *Agent) trustCAs(ca []byte) error {
	pair, err := os.ReadFile(a.path(fileCert))
	if err != nil {
		return err
	}
	return a.takeKeys(pair, ca)
}

func parseRing(texts []string) ([][]byte, error) {
	var ring [][]byte
	for _, text := range texts {
		key, err := gossip.ParseKey(text)
		if err != nil {
			return nil, err
		}
		ring = append(ring, key)
	}
	if len(ring) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "there is no gossip key")
	}
	return ring, nil
}

// keptRing is the gossip keys of the last run, the one in use first.
func (a *Agent) keptRing() ([][]byte, error) {
	var kept []string
	data, err := os.ReadFile(a.path(fileGossipRing))
	if err != nil || json.Unmarshal(data, &kept) != nil || len(kept) == 0 || kept[0] != a.key {
		kept = []string{a.key}
	}
	return parseRing(kept)
}

// advertised is the address of a listener as others are to dial it.
func (a *Agent) advertised(ln net.Listener) string {
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return ln.Addr().String()
	}
	return net.JoinHostPort(a.cfg.AdvertiseHost, port)
}
