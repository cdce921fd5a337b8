package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// settingsFile writes a --config file.
func settingsFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// SIGHUP takes up what a running role can, says what needs a restart, and a wrong file changes nothing.
func TestHangupReloadsTheSettings(t *testing.T) {
	dir := t.TempDir()
	forAgent, forCoordinator := filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "coordinator.yaml")
	settingsFile(t, forAgent, "label: [disk=ssd]\nregion: eu\n")
	k := newCluster(t, 1, 1, func(int) []string { return []string{"--config", forAgent} })
	a := k.agents[0]
	before := k.node(a)
	if before.Labels["disk"] != "ssd" || before.Region != "eu" {
		t.Fatalf("the file does not count: %+v", before)
	}

	settingsFile(t, forAgent, "label: [disk=hdd]\nregion: us\ntaint: [\"battery:NoSchedule\"]\nreserve: memory=64Mi\n")
	a.signal(syscall.SIGHUP)
	eventually(t, "the node has its new label", func() bool { return k.node(a).Labels["disk"] == "hdd" })
	after := k.node(a)
	if len(after.Taints) != 1 || after.Taints[0].Key != "battery" || before.Capacity.Memory-after.Capacity.Memory != 64<<20 || after.Region != "eu" || after.State != api.NodeReady {
		t.Errorf("after the reload the node is %+v", after)
	}
	eventually(t, "the log says what needs a restart", func() bool {
		return strings.Contains(a.Log(), `"applied":["label","reserve","taint"],"restart":["region"]`)
	})

	settingsFile(t, forAgent, "label: [no label]\n")
	a.signal(syscall.SIGHUP)
	eventually(t, "the wrong file is refused", func() bool { return strings.Contains(a.Log(), "the old ones stay") })
	if n := k.node(a); n.Labels["disk"] != "hdd" || n.State != api.NodeReady {
		t.Errorf("a wrong file changed the node: %+v", n)
	}

	c := k.coords[0]
	settingsFile(t, forCoordinator, "tls-san: []\n")
	c.args = append(c.args, "--config", forCoordinator)
	c.stop(syscall.SIGTERM)
	c.start()
	if err := handshake(k, "edge.example"); err == nil {
		t.Fatal("the certificate has the name already")
	}
	settingsFile(t, forCoordinator, "tls-san: [edge.example]\nlog-level: debug\n")
	c.signal(syscall.SIGHUP)
	eventually(t, "the API's certificate has its new name", func() bool { return handshake(k, "edge.example") == nil })
	if err := handshake(k, "localhost"); err != nil {
		t.Errorf("an old name is gone: %v", err)
	}
}

// handshake checks the API's certificate for a name.
func handshake(k *cluster, name string) error {
	ca, err := os.ReadFile(filepath.Join(k.coords[0].dir, "ca.pem"))
	if err != nil {
		k.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	d := tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS13}}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", k.coords[0].addr+":7700")
	if err != nil {
		return err
	}
	return conn.Close()
}
