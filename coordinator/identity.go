package coordinator

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/gossip"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
)

// identity is who a coordinator is, kept in its data folder. Members are the last known
// coordinators, so that a restart finds them before its state has caught up.
type identity struct {
	ClusterID string       `json:"clusterId"`
	ID        string       `json:"id"`
	Founder   bool         `json:"founder,omitempty"`
	Members   []api.Member `json:"members,omitempty"`
	GossipKey string       `json:"-"` // in gossip.key
}

// Files of the data folder; all are 0600 but fileGossipMembers, which Serf writes: addresses, no secret.
const (
	fileIdentity   = "identity.json"
	fileCA         = "ca.pem"
	fileCAKey      = "ca.key"
	fileCert       = "server.pem" // certificate and key, so that a crash cannot leave a pair that does not fit
	fileGossipKey  = "gossip.key"
	fileAdminToken = "admin.token"
	// The gossip members last seen. A restart at another address finds the others through any of them.
	fileGossipMembers = "gossip.members"
	dirRaft           = "raft"
	dirObjects        = "objects"
)

func (s *Server) path(name string) string { return filepath.Join(s.cfg.DataDir, name) }

func (s *Server) openIdentity(ctx context.Context) error {
	data, err := os.ReadFile(s.path(fileIdentity))
	switch {
	case err == nil:
		return s.loadIdentity(data)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case s.hasState(): // founding or joining would begin anew over what is there
		return s.damaged(fileIdentity, errors.New("it is missing, and there is a Raft log beside it"))
	}
	if err := CheckJoin(s.cfg.DataDir, s.cfg.Join, s.cfg.Token); err != nil {
		return err
	}
	if len(s.cfg.Join) > 0 {
		return s.enrol(ctx)
	}
	return s.foundIdentity()
}

// hasState tells whether there is a Raft log, which is made after the identity was written.
func (s *Server) hasState() bool { return exists(s.path(dirRaft)) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// CheckJoin refuses the first start on a data folder that has only one of what joining takes. It makes
// nothing, so that whoever asks it first leaves no half of a member behind.
func CheckJoin(dataDir string, join []string, token string) error {
	first := !exists(filepath.Join(dataDir, fileIdentity)) && !exists(filepath.Join(dataDir, dirRaft))
	if first && (len(join) > 0) != (token != "") {
		return api.Errorf(api.CodeInvalid, "--join and --token go together").WithHint("give both to join a cluster, neither to found one")
	}
	return nil
}

func (s *Server) loadIdentity(data []byte) error {
	if err := json.Unmarshal(data, &s.id); err != nil {
		return s.damaged(fileIdentity, err)
	}
	files := map[string][]byte{}
	for _, name := range []string{fileCA, fileCAKey, fileCert, fileGossipKey} {
		b, err := os.ReadFile(s.path(name))
		if err != nil {
			return s.damaged(name, err)
		}
		files[name] = b
	}
	s.id.GossipKey = string(files[fileGossipKey])
	if _, err := base64.StdEncoding.DecodeString(s.id.GossipKey); err != nil {
		return s.damaged(fileGossipKey, err)
	}
	return s.useKeys(files[fileCA], files[fileCAKey], files[fileCert])
}

func (s *Server) damaged(file string, err error) error {
	return datadir.Damaged(s.path(file), err, "while a majority of the other coordinators runs, remove this member there, move the folder away and join again with --join")
}

func (s *Server) useKeys(ca, caKey, pair []byte) (err error) {
	issuer, err := pki.FindCA(ca, caKey)
	if err != nil {
		return s.damaged(fileCA+" or "+fileCAKey, err)
	}
	if s.creds, err = pki.NewCredentials(pair, pair, ca); err != nil {
		return s.damaged(fileCert, err)
	}
	if err := s.creds.CheckClock(time.Now()); err != nil {
		s.log.Error().Err(err).Msg("no other member will accept this coordinator")
	}
	return s.openKeyring(issuer, ca)
}

// foundIdentity makes a cluster's keys. identity.json is written last: without it a next start
// begins anew.
func (s *Server) foundIdentity() error {
	clusterID := api.NewID("c")
	ca, err := pki.NewCA(clusterID, time.Now())
	if err != nil {
		return err
	}
	s.id = identity{ClusterID: clusterID, ID: api.NewID("s"), Founder: true, GossipKey: base64.StdEncoding.EncodeToString(gossip.NewKey())}
	key, csr, err := pki.NewKeyCSR()
	if err != nil {
		return err
	}
	cert, err := ca.Issue(csr, s.serverIdentity(s.id.ID), nil, time.Now(), api.LeafLifetime)
	if err != nil {
		return err
	}
	token := "cl_" + api.NewID("t") + "_" + api.NewSecret()
	if err := datadir.WriteFile(s.path(fileAdminToken), []byte(token+"\n")); err != nil {
		return err
	}
	return s.saveIdentity(ca.CertPEM(), ca.KeyPEM(), slices.Concat(cert, key))
}

func (s *Server) saveIdentity(ca, caKey, pair []byte) error {
	for _, f := range []struct {
		name string
		data []byte
	}{{fileCA, ca}, {fileCAKey, caKey}, {fileCert, pair}, {fileGossipKey, []byte(s.id.GossipKey)}} {
		if err := datadir.WriteFile(s.path(f.name), f.data); err != nil {
			return err
		}
	}
	if err := s.useKeys(ca, caKey, pair); err != nil {
		return err
	}
	return s.saveIdentityFile()
}

func (s *Server) saveIdentityFile() error {
	data, err := json.MarshalIndent(s.id, "", "  ")
	if err != nil {
		return err
	}
	return datadir.WriteFile(s.path(fileIdentity), data)
}

// enrol becomes a coordinator of an existing cluster: the CA is checked against the token before the
// token is sent.
func (s *Server) enrol(ctx context.Context) error {
	key, csr, err := pki.NewKeyCSR()
	if err != nil {
		return err
	}
	resp, err := link.Enrol(ctx, s.cfg.NetDial, s.cfg.Join, api.EnrolRequest{Token: s.cfg.Token, Role: api.RoleServer, CSR: string(csr), Name: s.cfg.Name})
	if err != nil {
		return err
	}
	s.id = identity{ClusterID: resp.ClusterID, ID: resp.ID, Members: resp.Coordinators, GossipKey: resp.GossipKey}
	return s.saveIdentity([]byte(resp.CA), []byte(resp.CAKey), slices.Concat([]byte(resp.Cert), key))
}

// keepCertificate renews the own leaf when a third of its life is left. Connections that are open
// stay open.
func (s *Server) keepCertificate(ctx context.Context) error {
	for s.creds.AwaitRenewal(ctx) == nil {
		if err := s.issueOwn(s.trust.Load()); err != nil {
			s.log.Error().Err(err).Msg("certificate not renewed; trying again")
		}
	}
	return nil
}
