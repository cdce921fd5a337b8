package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// Modes of --containerd besides an address.
const (
	modeAuto    = "auto"
	modeOff     = "off"
	modePrivate = "private"
)

const (
	systemSocket = "/run/containerd/containerd.sock"
	dialTimeout  = 2 * time.Second  // for a daemon that runs to answer
	bootTimeout  = 10 * time.Second // for one that starts to answer
	stopTimeout  = 5 * time.Second  // for one that was told to stop
	maxDaemonLog = 8 << 20          // bytes of the private daemon's log before it is set aside
)

// connect finds a daemon as the mode says and dials it.
func (d *Driver) connect(ctx context.Context) error {
	if d.cfg.Mode == modeOff {
		return errors.New("off by --containerd=off")
	}
	if os.Geteuid() != 0 {
		return errors.New("not root: run the agent as root to run containers")
	}
	var err error
	switch d.cfg.Mode {
	case modeAuto:
		if d.client, err = dial(ctx, systemSocket); err == nil {
			return nil
		}
		return d.connectPrivate(ctx)
	case modePrivate:
		return d.connectPrivate(ctx)
	}
	d.client, err = dial(ctx, d.cfg.Mode)
	return err
}

func (d *Driver) connectPrivate(ctx context.Context) error {
	p := newDaemon(d.cfg)
	if err := p.open(ctx); err != nil {
		return err
	}
	d.private = p
	var err error
	d.client, err = dial(ctx, p.socket)
	return err
}

// dial returns a client whose daemon has answered. The client reconnects by itself later.
func dial(ctx context.Context, socket string) (*containerd.Client, error) {
	if _, err := os.Stat(socket); err != nil {
		return nil, fmt.Errorf("containerd: no socket at %s", socket)
	}
	c, err := containerd.New(socket, containerd.WithDefaultNamespace(Namespace), containerd.WithTimeout(dialTimeout))
	if err != nil {
		return nil, fmt.Errorf("containerd at %s: %w", socket, err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if _, err := c.Version(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("containerd at %s does not answer: %w", socket, err)
	}
	return c, nil
}

// daemon is a containerd of the agent's own. It may outlive the agent: its pid file and socket let
// the next one find it.
type daemon struct {
	root   string // images and snapshots, under the data folder
	state  string // short, as sockets live below it
	socket string
	log    zerolog.Logger

	mu  sync.Mutex
	pid int
}

func newDaemon(cfg Config) *daemon {
	return &daemon{
		root:   filepath.Join(cfg.DataDir, "containerd"),
		state:  filepath.Join(cfg.RunDir, "containerd"),
		socket: filepath.Join(cfg.RunDir, "containerd.sock"),
		log:    cfg.Log,
	}
}

func (d *daemon) pidFile() string    { return d.socket + ".pid" }
func (d *daemon) configFile() string { return filepath.Join(d.root, "config.toml") }
func (d *daemon) logFile() string    { return filepath.Join(d.root, "containerd.log") }

// open takes up the daemon that an earlier process left, or starts one.
func (d *daemon) open(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pid = d.left()
	if d.pid != 0 && d.await(ctx) == nil {
		d.log.Info().Int("pid", d.pid).Msg("private containerd taken up")
		return nil
	}
	if d.pid != 0 {
		d.kill()
	}
	return d.start(ctx)
}

// left is the pid of the daemon that the pid file names, 0 if that is not ours any more.
func (d *daemon) left() int {
	text, err := os.ReadFile(d.pidFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return 0
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(cmdline), d.configFile()) {
		return 0
	}
	return pid
}

func (d *daemon) start(ctx context.Context) error {
	bin, err := findBinaries()
	if err != nil {
		return err
	}
	if err := d.writeConfig(); err != nil {
		return err
	}
	out, err := d.openLog()
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(bin, "--config", d.configFile()) //nolint:noctx // it outlives the agent
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", out, out
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C on the agent is not for it
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("containerd: %w", err)
	}
	d.pid = cmd.Process.Pid
	if err := os.WriteFile(d.pidFile(), []byte(strconv.Itoa(d.pid)+"\n"), 0o600); err != nil {
		d.kill()
		return fmt.Errorf("containerd: %w", err)
	}
	if err := d.await(ctx); err != nil {
		d.kill()
		return fmt.Errorf("private containerd did not start: %w; see %s", err, d.logFile())
	}
	d.log.Info().Int("pid", d.pid).Str("socket", d.socket).Msg("private containerd started")
	return nil
}

// findBinaries returns the path of containerd when all that it needs is there too.
func findBinaries() (string, error) {
	var missing []string
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "runc"} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("%s: binary not found; apt-get install containerd runc", strings.Join(missing, ", "))
	}
	return exec.LookPath("containerd")
}

// writeConfig turns off what an agent does not need: Kubernetes' interface and its network ports.
func (d *daemon) writeConfig() error {
	for _, dir := range []string{d.root, d.state} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("containerd: %w", err)
		}
	}
	text := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri",
]
[grpc]
  address = %q
`, d.root, d.state, d.socket)
	if err := os.WriteFile(d.configFile(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("containerd: %w", err)
	}
	return nil
}

func (d *daemon) openLog() (*os.File, error) {
	if st, err := os.Stat(d.logFile()); err == nil && st.Size() > maxDaemonLog {
		if err := os.Rename(d.logFile(), d.logFile()+".1"); err != nil {
			return nil, fmt.Errorf("containerd: %w", err)
		}
	}
	f, err := os.OpenFile(d.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("containerd: %w", err)
	}
	return f, nil
}

// await polls until the daemon answers, dies, or bootTimeout has passed.
func (d *daemon) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := dial(ctx, d.socket)
		if err == nil {
			return c.Close()
		}
		if !d.alive() {
			return errors.New("it ended at once")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// alive tells whether the process runs, and reaps it if it is a child that has ended.
func (d *daemon) alive() bool {
	var status unix.WaitStatus
	if pid, err := unix.Wait4(d.pid, &status, unix.WNOHANG, nil); err == nil && pid == d.pid {
		return false
	}
	return d.pid != 0 && unix.Kill(d.pid, 0) == nil
}

// keep starts the daemon again when it has died. It ends with ctx, and leaves the daemon running.
func (d *daemon) keep(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.revive(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *daemon) revive(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.alive() || ctx.Err() != nil {
		return
	}
	d.log.Warn().Int("pid", d.pid).Msg("private containerd has died; starting it again")
	if err := d.start(ctx); err != nil {
		d.log.Error().Err(err).Msg("private containerd does not start")
	}
}

// stop ends the daemon politely, then by force, and removes what it leaves under /run.
func (d *daemon) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pid == 0 {
		return
	}
	if err := unix.Kill(d.pid, unix.SIGTERM); err == nil {
		d.awaitEnd(stopTimeout)
	}
	d.kill()
	for _, path := range []string{d.socket, d.socket + ".ttrpc", d.pidFile()} {
		os.Remove(path) // already gone, or found and taken over by the next start
	}
	os.RemoveAll(d.state)
}

func (d *daemon) kill() {
	if d.alive() {
		_ = unix.Kill(d.pid, unix.SIGKILL)
		d.awaitEnd(stopTimeout)
	}
	d.pid = 0
}

func (d *daemon) awaitEnd(limit time.Duration) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(limit)
	for d.alive() {
		select {
		case <-tick.C:
		case <-end:
			return
		}
	}
}
