package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
)

// Files of the data folder; all are 0600.
const (
	fileIdentity  = "identity.json"
	fileCA        = "ca.pem"
	fileCert      = "node.pem"
	fileKey       = "node.key"
	fileGossipKey = "gossip.key"
)

func (a *Agent) path(name string) string { return filepath.Join(a.cfg.DataDir, name) }

func (a *Agent) openIdentity(ctx context.Context) error {
	data, err := os.ReadFile(a.path(fileIdentity))
	switch {
	case err == nil:
		return a.loadIdentity(data)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case len(a.cfg.Join) == 0 || a.cfg.Token == "":
		return api.Errorf(api.CodeInvalid, "this node is in no cluster yet: --join and --token are needed").WithHint("make a token with 'cloudless token create --role node'")
	}
	return a.enrol(ctx)
}

func (a *Agent) loadIdentity(data []byte) error {
	if err := json.Unmarshal(data, &a.id); err != nil {
		return fmt.Errorf("%s is damaged: %w", a.path(fileIdentity), err)
	}
	var files [4][]byte
	for i, name := range []string{fileCert, fileKey, fileCA, fileGossipKey} {
		b, err := os.ReadFile(a.path(name))
		if err != nil {
			return err
		}
		files[i] = b
	}
	a.key = string(files[3])
	var err error
	a.creds, err = pki.NewCredentials(files[0], files[1], files[2])
	return err
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
	if err := a.saveKeys([]byte(resp.Cert), key, []byte(resp.CA)); err != nil {
		return err
	}
	if a.creds, err = pki.NewCredentials([]byte(resp.Cert), key, []byte(resp.CA)); err != nil {
		return err
	}
	data, err := json.Marshal(a.id)
	if err != nil {
		return err
	}
	return errors.Join(datadir.WriteFile(a.path(fileGossipKey), []byte(a.key)), datadir.WriteFile(a.path(fileIdentity), data))
}

func (a *Agent) saveKeys(cert, key, ca []byte) error {
	return errors.Join(datadir.WriteFile(a.path(fileCert), cert), datadir.WriteFile(a.path(fileKey), key), datadir.WriteFile(a.path(fileCA), ca))
}

// keepCertificate renews the leaf when a third of its life is left, by any coordinator that answers.
// Open connections are not touched.
func (a *Agent) keepCertificate(ctx context.Context) error {
	for run.Sleep(ctx, max(time.Until(a.creds.RenewAt()), time.Second)) == nil {
		key, csr, err := pki.NewKeyCSR()
		if err != nil {
			return err
		}
		var resp api.RenewResponse
		if err := a.sessions.call(ctx, api.PathRenew, api.RenewRequest{CSR: string(csr)}, &resp); err != nil {
			a.log.Warn().Err(err).Msg("certificate not renewed yet")
			if run.Sleep(ctx, 30*time.Second) != nil {
				return nil
			}
			continue
		}
		if err := errors.Join(a.saveKeys([]byte(resp.Cert), key, []byte(resp.CA)), a.creds.Update([]byte(resp.Cert), key, []byte(resp.CA))); err != nil {
			a.log.Error().Err(err).Msg("renewed certificate not taken up")
		}
	}
	return nil
}

// advertised is the address of a listener as others are to dial it.
func (a *Agent) advertised(ln net.Listener) string {
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return ln.Addr().String()
	}
	return net.JoinHostPort(a.cfg.AdvertiseHost, port)
}
