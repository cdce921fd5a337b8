package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// patientClient waits as long as a guest may take.
var patientClient = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// put sends so many bytes to a path of a host.
func put(t *testing.T, ingress, host, path string, n int) (status int) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, ingress+path, bytes.NewReader(make([]byte, n)))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := patientClient.Do(req)
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return cutOff
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// cutOff is the status of who goes on sending after the answer, and does not see it in time. When it is the
// ingress that does, it says 502.
const cutOff = 0

// reads tells whether a file of the workload is text.
func reads(m *member, path, text string) bool {
	code, body := fetch(m.ingress(), "files.localhost", "/files"+path)
	return code == http.StatusOK && body == text
}

// A container's volumes are bounded by the kernel, kept in step with their buckets, and stay as they are while
// its agent is killed and comes back, and while no coordinator is there; what a guest keeps in a bucket waits
// for one, and says so.
func TestVolumesOutliveTheAgentAndTheQuorum(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 1, 2, withContainers(0))
	for _, bucket := range []string{"assets", "uploads", "sessions"} {
		k.cli.must("storage", "bucket", "create", bucket)
	}
	object := func(text string) {
		t.Helper()
		path := filepath.Join(k.dir, "greeting")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k.cli.must("storage", "object", "put", "assets", "d/greeting", path)
	}
	object("one")
	k.apply("files", fmt.Sprintf(`container: {image: %s}
  ports: [{port: 8080}]
  volumes:
    - {name: scratch, path: /scratch, size: 4Mi}
    - {bucket: assets, path: /assets, readOnly: true}
    - {bucket: uploads, path: /uploads, size: 4Mi}`, absolute(t, helloImage)))
	k.apply("visits", fmt.Sprintf("replicas: 2\n  wasm: {module: %s, mode: http}\n  buckets: [{bucket: sessions, access: readWrite}]", absolute(t, "../../wasm-examples/visits-c/visits.wasm")))
	home, door := k.agents[0], k.agents[1]
	if !reads(door, "/assets/d/greeting", "one") {
		t.Error("the bucket is not in its folder when the replica is ready")
	}
	for path, want := range map[string]int{"/scratch/fits": 200, "/scratch/more": 507, "/assets/x": 507, "/uploads/sent": 200} {
		n := map[string]int{"/scratch/more": 16 << 20}[path]
		got := put(t, door.ingress(), "files.localhost", "/files"+path, n)
		if missed := got == cutOff || got == http.StatusBadGateway; got != want && (n == 0 || !missed) {
			t.Errorf("%d bytes to %s: status %d, want %d", n, path, got, want)
		}
	}
	eventually(t, "what was written is in the bucket", func() bool {
		_, _, code := k.cli.run("storage", "object", "stat", "uploads", "sent")
		return code == 0
	})

	before, task := k.replicas("files"), onlyTask(t, home)
	home.start2(t, syscall.SIGKILL, "--on-stop", "restart")
	k.whole()
	k.settled("files", 1)
	if after, now := k.replicas("files"), onlyTask(t, home); after != before || now != task {
		t.Errorf("the replica was touched: %s, before %s", after, before)
	}
	object("two")
	eventually(t, "the folder follows the bucket after the agent's restart", func() bool { return reads(door, "/assets/d/greeting", "two") })
	if !reads(door, "/scratch/fits", "") {
		t.Error("the volume is empty after the agent's restart")
	}

	if code, body := fetchBy(patientClient, door.ingress(), "visits.localhost", "/"); code != http.StatusOK || body != "1\n" {
		t.Errorf("visit: %d %q", code, body)
	}
	k.coords[0].stop(syscall.SIGTERM)
	if !reads(door, "/assets/d/greeting", "two") {
		t.Error("a folder needs a coordinator")
	}
	if got := put(t, door.ingress(), "files.localhost", "/files/uploads/later", 100); got != http.StatusOK {
		t.Errorf("a write to a folder without a coordinator: status %d", got)
	}
	began := time.Now()
	code, body := fetchBy(patientClient, door.ingress(), "visits.localhost", "/")
	if code != http.StatusServiceUnavailable || body != "not counted: errno 11\n" {
		t.Errorf("a visit without a coordinator: %d %q", code, body)
	}
	t.Logf("a guest was told after %s", time.Since(began).Round(time.Millisecond))
	k.coords[0].start()
	eventually(t, "what was written meanwhile is in the bucket", func() bool {
		_, _, code := k.cli.run("storage", "object", "stat", "uploads", "later")
		return code == 0
	})
	eventually(t, "visits are counted again", func() bool {
		code, body := fetchBy(patientClient, door.ingress(), "visits.localhost", "/")
		return code == http.StatusOK && body == "2\n"
	})
}
