package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/internal/datadir"
)

// pairFor writes a certificate for 127.0.0.1 with its key, and gives the flag's value.
func pairFor(t *testing.T, dir, name string) (pair string, cert *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")}
	for i, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(files[i], pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(files, ","), cert
}

// With a pair of files a port for strangers speaks TLS and nothing else, and takes another pair without
// being opened again; without one it is plain.
func TestPublicPortsSpeakTLSWithACertificate(t *testing.T) {
	dir := t.TempDir()
	o := &agentOptions{commonOptions: commonOptions{DataDir: dir, Advertise: "127.0.0.1"}}
	if err := datadir.Make(dir); err != nil {
		t.Fatal(err)
	}
	var all closers
	defer all.close()
	pair, cert := pairFor(t, dir, "one")
	p, err := all.listenPublic(o, "s3", "127.0.0.1:0", pair)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := all.listenPublic(o, "ingress", "127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, ln := range []net.Listener{p, plain} {
		srv := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
		go func() { _ = srv.Serve(ln) }() // ends with its listener
		defer srv.Close()
	}
	get := func(url string, trusted *x509.Certificate) error {
		pool := x509.NewCertPool()
		pool.AddCert(trusted)
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
		resp, err := c.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			return http.ErrNotSupported
		}
		return nil
	}
	if !strings.HasPrefix(p.url, "https://127.0.0.1:") || get(p.url, cert) != nil {
		t.Errorf("%s: %v", p.url, get(p.url, cert))
	}
	if get(strings.Replace(p.url, "https", "http", 1), cert) == nil {
		t.Error("it takes plain text")
	}
	if !strings.HasPrefix(plain.url, "http://") || get(plain.url, cert) != nil {
		t.Errorf("%s: %v", plain.url, get(plain.url, cert))
	}
	second, other := pairFor(t, dir, "two")
	cfg, err := pairConfig(p.flag, second)
	if err != nil {
		t.Fatal(err)
	}
	p.tls.Store(cfg)
	if get(p.url, cert) == nil || get(p.url, other) != nil {
		t.Errorf("after the exchange: %v", get(p.url, other))
	}
	if _, err := all.listenPublic(o, "s3", "127.0.0.1:0", "none.pem,none.key"); err == nil || !strings.Contains(err.Error(), "--s3-tls") {
		t.Errorf("%v", err)
	}
}
