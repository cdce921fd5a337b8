package oci

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// wantNothingLeft looks for whatever a container of the driver's node could leave.
func wantNothingLeft(t *testing.T, d *Driver) {
	t.Helper()
	if ids := must1(d.known(d.scope(t.Context()))); len(ids) > 0 {
		t.Errorf("left behind: %v", ids)
	}
	mounts := must1(os.ReadFile("/proc/self/mountinfo"))
	if strings.Contains(string(mounts), d.cfg.RunDir+"/netns") {
		t.Error("a network namespace is still mounted")
	}
	subnet := d.bridge.subnet.Addr().String()
	subnet = subnet[:strings.LastIndex(subnet, ".")+1]
	for _, rule := range firewall() {
		if !lab.rules[rule] && (strings.Contains(rule, subnet) || strings.Contains(rule, d.cfg.NodeID)) {
			t.Errorf("a rule is left: %s", rule)
		}
	}
	for _, name := range entries(d.bridge.addresses()) {
		if net.ParseIP(name) != nil {
			t.Errorf("address %s is still taken", name)
		}
	}
}

func reachable(host string) bool {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + host + ":8080/")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func server(t *testing.T) sandbox.Spec {
	s := named(t, spec("serve"))
	s.Ports = []api.Port{{Port: 8080, Protocol: api.ProtocolHTTP}}
	return s
}

func TestOutOfMemoryIsTold(t *testing.T) {
	d := open(t, config(testNode))
	s := spec("hog")
	s.Memory = 24 << 20
	_, exit := output(t, d, s)
	if !exit.OOM || exit.Code != exitKilled || exit.Reason != "out of memory (limit 24Mi)" {
		t.Errorf("exit is %+v", exit)
	}
}

// A crash of the daemon is no exit of its containers.
func TestDaemonRestarts(t *testing.T) {
	d := open(t, config(testNode))
	s := server(t)
	h := start(t, d, s)
	eventually(t, "an answer", func() bool { return reachable(h.Endpoint().Host) })
	lab.daemon.kill()
	if !reachable(h.Endpoint().Host) {
		t.Error("the container ended with the daemon")
	}
	lab.daemon.revive(t.Context())
	eventually(t, "the daemon", func() bool { return d.Info(t.Context()).Available })
	select {
	case <-h.Done():
		t.Fatalf("the daemon's end was taken for the container's: %+v", h.Exit())
	default:
	}
	must(h.Stop(t.Context(), 5*time.Second))
	if exit := h.Exit(); exit.Code != 2 { // the Go runtime's answer to SIGTERM in process 1
		t.Errorf("exit after the restart is %+v", exit)
	}
	wantNothingLeft(t, d)
}

// A second driver takes up what runs, and tells how the others ended.
func TestAdopt(t *testing.T) {
	cfg := config(testNode)
	d := open(t, cfg)
	lives, ends := server(t), named(t, spec("forever"))
	first := start(t, d, lives)
	h := start(t, d, ends)
	awaitReady(t, ends)
	must(d.Close())
	if err := first.Stop(t.Context(), 0); api.CodeOf(err) == "" {
		t.Error("a handle of a closed driver stops its container")
	}
	client := must1(containerd.New(lab.daemon.socket, containerd.WithDefaultNamespace(Namespace)))
	defer client.Close()
	ctx := d.scope(t.Context())
	c := must1(client.LoadContainer(ctx, containerID(testNode, ends.ID)))
	task := must1(c.Task(ctx, nil))
	ended := must1(task.Wait(ctx))
	must(task.Kill(ctx, syscall.SIGTERM))
	<-ended

	next := open(t, cfg)
	taken, err := next.Adopt(t.Context(), lives)
	must(err)
	if host := taken.Endpoint().Host; host != first.Endpoint().Host || !reachable(host) {
		t.Errorf("the adopted container is at %q, was at %q", host, first.Endpoint().Host)
	}
	_, err = next.Adopt(t.Context(), ends)
	wantError(t, err, api.CodeNotFound, "exited with code 0")
	must(taken.Stop(t.Context(), 0))
	wantNothingLeft(t, next)
	_ = h
}

// The machine's end takes the namespaces along, and leaves what lies on the disk: that an address is taken.
func TestAfterARebootAddressesAreFreeAgain(t *testing.T) {
	d := open(t, config(testNode))
	s := named(t, spec("forever"))
	h := start(t, d, s)
	id := containerID(testNode, s.ID)
	taken := filepath.Join(d.bridge.addresses(), h.Endpoint().Host)
	text := must1(os.ReadFile(taken))
	must(h.Stop(t.Context(), 0))
	must(os.MkdirAll(d.folder(id), 0o711))
	must(os.WriteFile(taken, text, 0o600))

	if err := d.Clean(t.Context(), map[string]bool{s.ID: true}); err != nil || len(entries(d.bridge.addresses())) == 0 {
		t.Errorf("what is to be kept was cleaned: %v", err)
	}
	again := start(t, d, s)
	if again.Endpoint().Host == "" {
		t.Error("the container started anew has no address")
	}
	must(again.Stop(t.Context(), 0))
	must(os.MkdirAll(d.folder(id), 0o711))
	must(os.WriteFile(taken, text, 0o600))
	must(d.Clean(t.Context(), nil))
	wantNothingLeft(t, d)
}

// Agents that share a daemon leave each other's containers alone.
func TestSharedDaemon(t *testing.T) {
	mine, other := open(t, config("n-one")), open(t, config("n-two"))
	a, b := named(t, spec("forever")), named(t, spec("forever"))
	start(t, mine, a)
	h := start(t, other, b)
	must(mine.Close())
	mine = open(t, config("n-one"))
	must(mine.Clean(t.Context(), nil))
	wantNothingLeft(t, mine)
	select {
	case <-h.Done():
		t.Errorf("the other node's container was removed: %+v", h.Exit())
	default:
	}
	if _, err := mine.Adopt(t.Context(), b); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("the other node's container was adopted: %v", err)
	}
	if mine.bridge.subnet.Overlaps(other.bridge.subnet) || mine.bridge.name == other.bridge.name {
		t.Error("two nodes share a network")
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	d := open(t, config(testNode))
	s := named(t, spec())
	s.Container.Command = []string{"/no/such/program"}
	_, err := d.Start(t.Context(), s)
	wantError(t, err, api.CodeInvalid, "/no/such/program")
	s.Container.Command, s.Container.User = nil, "nobody-knows"
	_, err = d.Start(t.Context(), s)
	wantError(t, err, api.CodeInvalid, "nobody-knows")
	wantNothingLeft(t, d)
}

// Without CNI plugins the bridge is refused by name, and the host's network works.
func TestNoBridge(t *testing.T) {
	d := open(t, config(testNode))
	bridge := d.bridge
	d.bridge, d.bridgeErr = nil, findPluginsIn([]string{t.TempDir()})
	defer func() { d.bridge, d.bridgeErr = bridge, nil }()
	_, err := d.Start(t.Context(), named(t, spec("id")))
	wantError(t, err, api.CodeUnavailable, "CNI plugin bridge", "network: host")
	if info := d.Info(t.Context()); !info.Available || !strings.Contains(info.Reason, "CNI plugin bridge") {
		t.Errorf("Info is %+v", info)
	}
	s := spec("exit", "4")
	s.Container.Network = networkHost
	if _, exit := output(t, d, s); exit.Code != 4 {
		t.Errorf("exit is %+v", exit)
	}
}

// The cluster's own ports and link-local addresses are out of a container's reach.
func TestGuard(t *testing.T) {
	cfg := config(testNode)
	l := must1(net.Listen("tcp", "0.0.0.0:0"))
	defer l.Close()
	allowed := &http.Server{Handler: http.NotFoundHandler()}
	open2 := must1(net.Listen("tcp", ":0"))
	go allowed.Serve(open2)
	defer allowed.Close()
	cfg.DenyPorts = []int{l.Addr().(*net.TCPAddr).Port}
	d := open(t, cfg)
	gateway := d.bridge.subnet.Addr().Next().String()
	_, port, _ := net.SplitHostPort(open2.Addr().String())
	if log, _ := output(t, d, spec("get", "http://"+gateway+":"+port)); !strings.Contains(log, "got true") {
		t.Errorf("the host is out of reach: %q", log)
	}
	_, denied, _ := net.SplitHostPort(l.Addr().String())
	if log, _ := output(t, d, spec("get", "http://"+gateway+":"+denied)); !strings.Contains(log, "connection refused") {
		t.Errorf("a port of the cluster is in reach: %q", log)
	}
	if log, _ := output(t, d, spec("get", "http://169.254.169.254/")); !strings.Contains(log, "no route to host") && !strings.Contains(log, "refused") {
		t.Errorf("a link-local address is in reach: %q", log)
	}
	bridge := must1(net.InterfaceByName(d.bridge.name))
	for _, a := range must1(bridge.Addrs()) {
		addr := netip.MustParsePrefix(a.String()).Addr()
		if !addr.IsLinkLocalUnicast() {
			continue
		}
		if log, _ := output(t, d, spec("get", fmt.Sprintf("http://[%s%%25eth0]:%s/", addr.WithZone(""), port))); !strings.Contains(log, "got false") {
			t.Errorf("the host's link-local address %s is in reach: %q", addr, log)
		}
	}
}

func TestExec(t *testing.T) {
	d := open(t, config(testNode))
	s := named(t, spec("forever"))
	h := start(t, d, s)
	var out bytes.Buffer
	both := sandbox.ExecRequest{Command: []string{"/guest", "cat"}, Stdin: strings.NewReader(strings.Repeat("x", 100_000)), Stdout: &out, Stderr: &out}
	code, err := h.Exec(t.Context(), both)
	if err != nil || code != 0 || strings.Count(out.String(), "x") != 100_000 || !strings.Contains(out.String(), "copied 100000 <nil>") {
		t.Errorf("cat: code %d, error %v, %d bytes", code, err, out.Len())
	}
	_, err = h.Exec(t.Context(), sandbox.ExecRequest{Command: []string{"/no/such"}})
	wantError(t, err, api.CodeInvalid, "/no/such")
	signals := make(chan string, 1)
	signals <- "KILL"
	code, err = h.Exec(t.Context(), sandbox.ExecRequest{Command: []string{"/guest", "stubborn"}, Signals: signals})
	if err != nil || code != exitKilled {
		t.Errorf("a signal: code %d, error %v", code, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = h.Exec(ctx, sandbox.ExecRequest{Command: []string{"/guest", "stubborn"}})
	wantError(t, err, api.CodeTimeout)
	task := must1(must1(d.client.LoadContainer(d.scope(t.Context()), containerID(testNode, s.ID))).Task(d.scope(t.Context()), nil))
	if pids := must1(task.Pids(d.scope(t.Context()))); len(pids) != 1 {
		t.Errorf("%d processes are left in the container, want its own alone", len(pids))
	}
	must(h.Stop(t.Context(), 0))
	_, err = h.Exec(t.Context(), both)
	wantError(t, err, api.CodeNotFound)
}

// counter takes output and keeps its length alone.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// gone is a caller that has left.
type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// Any amount and any bytes come through exec as they are; a caller that leaves in the middle leaves no
// process behind.
func TestExecOutput(t *testing.T) {
	d := open(t, config(testNode))
	s := named(t, spec("forever"))
	h := start(t, d, s)
	var flood counter
	code, err := h.Exec(t.Context(), sandbox.ExecRequest{Command: []string{"/guest", "flood", "64"}, Stdout: &flood})
	if err != nil || code != 0 || flood.n != 64<<20 {
		t.Errorf("flood: code %d, error %v, %d bytes", code, err, flood.n)
	}
	var out bytes.Buffer
	must1(h.Exec(t.Context(), sandbox.ExecRequest{Command: []string{"/guest", "binary"}, Stdout: &out}))
	if !bytes.Equal(out.Bytes(), everyByte()) {
		t.Errorf("%d bytes came, not the %d that were written", out.Len(), len(everyByte()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	h.Exec(ctx, sandbox.ExecRequest{Command: []string{"/guest", "flood", "100000"}, Stdout: gone{}})
	task := must1(must1(d.client.LoadContainer(d.scope(t.Context()), containerID(testNode, s.ID))).Task(d.scope(t.Context()), nil))
	if pids := must1(task.Pids(d.scope(t.Context()))); len(pids) != 1 {
		t.Errorf("%d processes are left in the container, want its own alone", len(pids))
	}
}

// everyByte is what the guest's binary prints.
func everyByte() []byte {
	var b []byte
	for i := range 256 {
		b = append(b, byte(i))
	}
	return append(b, bytes.Repeat([]byte{0xff, 0}, 1<<19)...)
}

// What a container writes is in its log as it is.
func TestLogHoldsAnyBytes(t *testing.T) {
	d := open(t, config(testNode))
	if log, _ := output(t, d, spec("binary")); log != string(everyByte()) {
		t.Errorf("the log has %d bytes, not the %d that were written", len(log), len(everyByte()))
	}
}

// lockedBuffer is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestExecTerminal(t *testing.T) {
	d := open(t, config(testNode))
	h := start(t, d, named(t, spec("forever")))
	var out lockedBuffer
	in, typed := io.Pipe()
	sizes := make(chan api.TermSize)
	result := make(chan int, 1)
	go func() {
		code, err := h.Exec(t.Context(), sandbox.ExecRequest{Command: []string{"/guest", "tty"}, TTY: true, Stdin: in, Stdout: &out, Resize: sizes})
		if err != nil {
			t.Error(err)
		}
		result <- code
	}()
	eventually(t, "a terminal", func() bool { return strings.Contains(out.String(), "terminal true") })
	sizes <- api.TermSize{Cols: 123, Rows: 45}
	eventually(t, "its new size", func() bool { return strings.Contains(out.String(), "size 123x45") })
	typed.Write([]byte("abc\n"))
	if code := <-result; code != 7 || !strings.Contains(out.String(), "line ABC") {
		t.Errorf("code %d, output %q", code, &out)
	}
	typed.Close()
}

func TestUsage(t *testing.T) {
	d := open(t, config(testNode))
	s := named(t, spec("forever"))
	h := start(t, d, s)
	awaitReady(t, s)
	u, err := h.Usage(t.Context())
	if err != nil || u.CPUTime <= 0 || u.Memory < 100<<10 || u.Memory > 256<<20 {
		t.Errorf("usage is %+v, error %v", u, err)
	}
	must(h.Stop(t.Context(), 0))
	_, err = h.Usage(t.Context())
	wantError(t, err, api.CodeNotFound)
}

// Under /run nothing stays of commands and of the node: what an agent that was killed has left goes
// when the next one opens, and the folder itself when the last container is gone.
func TestNothingStaysUnderRun(t *testing.T) {
	cfg := config("n-run")
	d := open(t, cfg)
	s := named(t, spec("forever"))
	command := sandbox.ExecRequest{Command: []string{"/guest", "hello"}, Stdout: io.Discard, Stderr: io.Discard}
	if code, err := start(t, d, s).Exec(t.Context(), command); code != 3 || err != nil {
		t.Fatalf("code %d, %v", code, err)
	}
	must(os.MkdirAll(filepath.Join(cfg.RunDir, "exec", "left-by-a-kill"), 0o700))
	must(d.Close()) // the container runs on
	next := open(t, cfg)
	if left := entries(filepath.Join(cfg.RunDir, "exec")); len(left) > 0 {
		t.Errorf("commands of the killed agent are left: %v", left)
	}
	h := must1(next.Adopt(t.Context(), s))
	must1(h.Exec(t.Context(), command))
	must(h.Stop(t.Context(), 0))
	must(next.Close())
	if _, err := os.Stat(cfg.RunDir); !os.IsNotExist(err) {
		t.Errorf("%s is left with %v (%v)", cfg.RunDir, entries(cfg.RunDir), err)
	}
}

// The agent rotates a log by copying and truncating it; the container must go on at the new end.
func TestLogIsAppended(t *testing.T) {
	d := open(t, config(testNode))
	s := named(t, spec("forever"))
	must(os.WriteFile(s.LogPath, []byte("from before\n"), 0o600))
	h := start(t, d, s)
	awaitReady(t, s)
	must(os.Truncate(s.LogPath, 0))
	must(h.Stop(t.Context(), 5*time.Second))
	s.Attempt++
	start(t, d, s)
	awaitReady(t, s)
	if text := must1(os.ReadFile(s.LogPath)); bytes.ContainsRune(text, 0) || string(text) != "ready\n" {
		t.Errorf("the log is %q", text)
	}
}

// A private daemon is started, found again after a kill -9 of the agent, and stopped when idle.
func TestPrivateDaemon(t *testing.T) {
	needRoot(t)
	dir := must1(os.MkdirTemp(lab.dir, "p"))
	cfg := Config{Mode: modePrivate, DataDir: dir, NodeID: "n-private", Cluster: testCluster, RunDir: filepath.Join(dir, "run"), Log: zerolog.Nop()}
	first := open(t, cfg)
	pid := first.private.pid
	s := named(t, spec("forever"))
	start(t, first, s)
	must(first.Close())
	second := open(t, cfg)
	if second.private.pid != pid {
		t.Errorf("daemon %d was not taken up; %d runs", pid, second.private.pid)
	}
	h := must1(second.Adopt(t.Context(), s))
	must(h.Stop(t.Context(), 0))
	syscall.Kill(pid, syscall.SIGKILL)
	eventually(t, "a new daemon", func() bool { return second.Info(t.Context()).Available && second.private.left() != pid })
	must(second.Close())
	if left := second.private.left(); left != 0 {
		t.Errorf("daemon %d runs although no container is left", left)
	}
	if _, err := net.InterfaceByName(second.bridge.name); err == nil {
		t.Error("the bridge is left")
	}
}

func TestWithoutContainerd(t *testing.T) {
	for mode, want := range map[string]string{modeOff: "--containerd=off", "/no/such.sock": "/no/such.sock"} {
		cfg := Config{Mode: mode, DataDir: t.TempDir(), RunDir: t.TempDir(), NodeID: "n", Log: zerolog.Nop()}
		d, err := Open(t.Context(), cfg)
		must(err)
		info := d.Info(t.Context())
		if info.Available || os.Geteuid() == 0 && !strings.Contains(info.Reason, want) {
			t.Errorf("%s: %+v, want the reason %q", mode, info, want)
		}
		_, err = d.Start(t.Context(), sandbox.Spec{Container: &api.ContainerSpec{}})
		wantError(t, err, api.CodeUnavailable, info.Reason)
		must(d.Clean(t.Context(), nil))
		must(d.Close())
	}
	if _, err := Open(t.Context(), Config{Mode: "nonsense", DataDir: "/x", NodeID: "n"}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a wrong mode: %v", err)
	}
}
