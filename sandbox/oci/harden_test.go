package oci

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// A container that asks for nothing gets no privilege.
func TestHardenedByDefault(t *testing.T) {
	d := open(t, config(testNode))
	status, _ := output(t, d, spec("show", "/proc/self/status"))
	for _, want := range []string{
		"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000",
		"CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "Uid:\t65534\t65534",
	} {
		if !strings.Contains(status, want) {
			t.Errorf("status has no %q:\n%s", want, status)
		}
	}
	for path, want := range map[string]string{
		"/file": "read-only file system", "/etc/hosts": "read-only file system", "/proc/sys/kernel/hostname": "read-only file system",
		"/tmp/file": "<nil>", "/run/file": "<nil>",
	} {
		if log, _ := output(t, d, spec("write", path)); !strings.Contains(log, want) {
			t.Errorf("writing %s gave %q, want %q", path, log, want)
		}
	}
}

// What a manifest asks for it gets, and no more.
func TestExceptions(t *testing.T) {
	d := open(t, config(testNode))
	s := spec("write", "/file")
	s.Container.WritableRoot, s.Container.RunAsRoot, s.Container.User = true, true, "0"
	if log, _ := output(t, d, s); !strings.Contains(log, "/file: <nil>") {
		t.Errorf("a writable root: %q", log)
	}
	s = spec("show", "/proc/self/status")
	s.Container.Capabilities = []string{"NET_RAW", "CAP_KILL"} // bits 13 and 5
	if log, _ := output(t, d, s); !strings.Contains(log, "CapEff:\t0000000000002020") || !strings.Contains(log, "CapBnd:\t0000000000002020") {
		t.Errorf("listed capabilities: %q", log)
	}
}

func TestRootIsRefused(t *testing.T) {
	d := open(t, config(testNode))
	for _, user := range []string{"0", "root", "0:1000", "toor"} {
		s := named(t, spec("id"))
		s.Container.User = user
		_, err := d.Start(t.Context(), s)
		wantError(t, err, api.CodeInvalid, "spec.container.runAsRoot")
		if user != "toor" { // only the image's own passwd file tells that this is root
			wantError(t, d.Prepare(t.Context(), s), api.CodeInvalid, "spec.container.runAsRoot")
		}
		s.Container.RunAsRoot = true
		if log, _ := output(t, d, s); !strings.Contains(log, "uid=0") {
			t.Errorf("%s with runAsRoot: %q", user, log)
		}
	}
	wantNothingLeft(t, d)
}

// User, folder, arguments and environment come from the image unless the spec says otherwise.
func TestImageDefaults(t *testing.T) {
	d := open(t, config(testNode))
	s := spec()
	s.Hostname = "my-host"
	log, _ := output(t, d, s)
	for _, want := range []string{"uid=65534 gid=65534", "host=my-host", "dir=/etc", `args=["/guest" "id"]`} {
		if !strings.Contains(log, want) {
			t.Errorf("log %q has no %q", log, want)
		}
	}
	s = spec("show", "/proc/self/status")
	s.Container.User = "app"
	if log, _ := output(t, d, s); !strings.Contains(log, "Uid:\t1234") || !strings.Contains(log, "77") {
		t.Errorf("user by name: %q", log)
	}
	s = spec("env", "FROM_IMAGE")
	if log, _ := output(t, d, s); log != "FROM_IMAGE=yes\n" {
		t.Errorf("image's environment: %q", log)
	}
	s = spec("env", "PORT")
	s.Ports = []api.Port{{Port: 53, Protocol: api.ProtocolTCP}, {Port: 8090, Protocol: api.ProtocolHTTP}}
	if log, _ := output(t, d, s); log != "PORT=8090\n" {
		t.Errorf("PORT: %q", log)
	}
	s.Env = map[string]string{"PORT": "1"}
	if log, _ := output(t, d, s); log != "PORT=1\n" {
		t.Errorf("PORT of the spec: %q", log)
	}
}

func TestMounts(t *testing.T) {
	d := open(t, config(testNode))
	dir := t.TempDir()
	must(os.Chmod(dir, 0o777))
	s := spec("write", "/data/file")
	s.Mounts = []sandbox.Mount{{Source: dir, Target: "/data"}}
	if log, _ := output(t, d, s); !strings.Contains(log, "<nil>") {
		t.Errorf("writing a mount: %q", log)
	}
	s.Mounts[0].ReadOnly = true
	if log, _ := output(t, d, s); !strings.Contains(log, "read-only") {
		t.Errorf("writing a read-only mount: %q", log)
	}
}

func TestProcessLimit(t *testing.T) {
	d := open(t, config(testNode))
	s := spec("fork")
	s.Memory = 1 << 30
	if log, _ := output(t, d, s); !strings.Contains(log, "refused after") {
		t.Errorf("a fork bomb: %q", log)
	}
}

func TestCPUQuotaAndMemoryLimit(t *testing.T) {
	d := open(t, config(testNode))
	s := named(t, spec("forever"))
	s.CPU, s.Memory = 250, 48<<20
	h := start(t, d, s)
	c := must1(d.client.LoadContainer(d.scope(t.Context()), containerID(testNode, s.ID)))
	res := must1(c.Spec(d.scope(t.Context()))).Linux.Resources
	if *res.CPU.Quota != 25_000 || *res.CPU.Period != 100_000 || *res.Memory.Limit != 48<<20 || *res.Memory.Swap != 48<<20 || *res.Pids.Limit != pidsLimit {
		t.Errorf("limits are %+v %+v %+v", res.CPU, res.Memory, res.Pids)
	}
	must(h.Stop(t.Context(), 0))
}

// On the host's network a container is at 127.0.0.1.
func TestHostNetwork(t *testing.T) {
	d := open(t, config(testNode))
	l := must1(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	s := spec("get", "http://"+l.Addr().String())
	s.Container.Network = networkHost
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = conn.Read(make([]byte, 4096)) // the request: an answer before it is no answer
			conn.Write([]byte("HTTP/1.0 200 OK\r\n\r\n"))
			conn.Close()
		}
	}()
	if log, _ := output(t, d, s); !strings.Contains(log, "got true <nil>") {
		t.Errorf("reaching the host's loopback: %q", log)
	}
	s = named(t, spec("forever"))
	s.Container.Network = networkHost
	h := start(t, d, s)
	if host := h.Endpoint().Host; host != "127.0.0.1" {
		t.Errorf("the endpoint is %s", host)
	}
	must(h.Stop(t.Context(), 0))
}
