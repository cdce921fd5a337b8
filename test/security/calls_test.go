package security

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
)

// callNode asks a coordinator's node API with some credentials; out may be nil.
func callNode(t *testing.T, c *coord, creds *pki.Credentials, method, path string, in, out any) (status int, err error) {
	t.Helper()
	d := &link.Dialer{Creds: creds}
	return callWith(t, d.HTTPClient(api.ALPNNode, pki.Identity{Role: api.RoleServer}), "https://"+c.node+path, method, in, out)
}

func callWith(t *testing.T, client *http.Client, url, method string, in, out any) (status int, err error) {
	t.Helper()
	defer client.CloseIdleConnections()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && out != nil && resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(data, out)
	}
	return resp.StatusCode, err
}
