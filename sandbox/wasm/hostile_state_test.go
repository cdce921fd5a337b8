package wasm

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// fresh: no request finds what another has left, nor what one that trapped or exited was in the middle
// of. There is one instance at a time, so that the requests share it if they may.
func fresh(t *testing.T, y *yard, spec sandbox.Spec) {
	for _, isolation := range []string{api.IsolationRequest, api.IsolationFresh} {
		spec.ID = api.NewID("r")
		spec.Wasm.Isolation, spec.Wasm.MaxConcurrency = isolation, 1
		server, _, log := serve(t, y.Driver, spec)
		for n := range 4 {
			if _, body, _ := fetch(t, http.MethodGet, server.URL, ""); len(body) != 4 || number(body) != 1 {
				t.Errorf("isolation %s: request %d finds %d in %q; the log is %q", isolation, n, number(body), body, log)
			}
		}
	}
}

func TestHostileState(t *testing.T) {
	var attacks []attack
	for _, where := range []string{
		"global", "globals", "vector", "memory", "pages", "waits", "size", "grown", "large", "data", "elem", "table", "tablesize", "extern",
		"trap", "exit", "descriptors", "rights",
	} {
		attacks = append(attacks, attack{name: "state-" + where, end: fresh})
	}
	newYard(t).run(t, attacks)
}

// Without isolation the same guest does find it: the tests above would see a leak.
func TestAnInstanceThatIsNotIsolatedKeepsItsState(t *testing.T) {
	d := newDriver(t)
	for _, where := range []string{"memory", "pages", "waits", "table", "size"} {
		spec := attack{name: "state-" + where}.spec(t)
		spec.Wasm.Isolation, spec.Wasm.MaxConcurrency = api.IsolationInstance, 1
		server, _, _ := serve(t, d, spec)
		get(t, server.URL)
		if status, body := get(t, server.URL); status != http.StatusOK || number(body) == 1 {
			t.Errorf("%s: status %d, the second request finds %d", where, status, number(body))
		}
	}
}

// The environment of a WAGI request is its own.
func TestARequestsEnvironmentIsItsOwn(t *testing.T) {
	server, _, _ := serve(t, newDriver(t), moduleSpec("wagienv", api.ModeHTTP))
	for _, secret := range []string{"one", "", "two", ""} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if secret != "" {
			req.Header.Set("X-Secret", secret)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		var body strings.Builder
		_ = resp.Write(&body)
		_ = resp.Body.Close()
		if strings.Contains(body.String(), "X_SECRET") != (secret != "") || !strings.Contains(body.String(), "REQUEST_METHOD") {
			t.Errorf("with the secret %q: %q", secret, body.String())
		}
	}
}
