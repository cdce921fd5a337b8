package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/log"
	"github.com/rs/zerolog"
	"github.com/sirupsen/logrus"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/sandbox"
)

// Namespace is the containerd namespace that holds everything of Cloudless.
const Namespace = "cloudless"

// Labels of containers and snapshots. Agents that share a daemon touch only what carries their own
// cluster and node.
const (
	labelCluster  = "cloudless.io/cluster"
	labelNode     = "cloudless.io/node"
	labelReplica  = "cloudless.io/replica"
	labelWorkload = "cloudless.io/workload"
	labelHost     = "cloudless.io/host" // the address that the container is reached at
)

// Config says where containerd is and what this agent may call its own.
type Config struct {
	Mode      string // auto, off, private, or the address of a daemon's socket
	DataDir   string // absolute; the driver's files are in its containerd and containers folders
	NodeID    string
	Cluster   string
	RunDir    string // sockets and network namespaces; default /run/cloudless/NODEID
	DenyPorts []int  // the cluster's own ports, which containers on the bridge may not reach
	Log       zerolog.Logger
}

func (c *Config) check() error {
	switch {
	case c.NodeID == "":
		return api.Errorf(api.CodeInvalid, "containers need the node's id")
	case !filepath.IsAbs(c.DataDir):
		return api.Errorf(api.CodeInvalid, "data folder %q is not an absolute path", c.DataDir)
	}
	switch c.Mode {
	case "":
		c.Mode = modeAuto
	case modeAuto, modeOff, modePrivate:
	default:
		c.Mode = strings.TrimPrefix(c.Mode, "unix://")
		if !filepath.IsAbs(c.Mode) {
			return api.Errorf(api.CodeInvalid, "--containerd=%s is not auto, off, private or the path of a socket", c.Mode)
		}
	}
	if c.RunDir == "" {
		c.RunDir = filepath.Join("/run/cloudless", c.NodeID)
	}
	return nil
}

// Driver runs containers. The zero value is not usable; see Open.
type Driver struct {
	cfg    Config
	log    zerolog.Logger
	silent *log.Entry
	group  *run.Group
	keys   keyLocks // one owner per container id

	reason      string  // why there is no containerd; "" when client is set
	private     *daemon // nil with a daemon that is not ours
	client      *containerd.Client
	snapshotter string
	imageLimit  int64 // bytes that unused images may fill up to
	bridge      *bridge
	bridgeErr   error // why there is no bridge network

	mu      sync.Mutex
	handles map[string]*handle // by container id
}

var (
	_ sandbox.Driver  = (*Driver)(nil)
	_ sandbox.Trimmer = (*Driver)(nil)
)

// Open connects to containerd. That there is none is no error: the driver then says so in Info and
// refuses to start anything.
func Open(ctx context.Context, cfg Config) (*Driver, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	d := &Driver{cfg: cfg, log: cfg.Log, group: run.New(context.Background()), handles: map[string]*handle{}, silent: silentLog()}
	if err := d.setup(ctx); err != nil {
		d.reason = err.Error()
		d.log.Info().Str("reason", d.reason).Msg("containers are not available")
		d.stop()
		return d, nil
	}
	d.group.Go("containerd events", d.watchOOM)
	if d.private != nil {
		d.group.Go("containerd keeper", d.private.keep)
	}
	return d, nil
}

func (d *Driver) setup(ctx context.Context) error {
	if err := d.connect(ctx); err != nil {
		return err
	}
	name, err := pickSnapshotter(d.scope(ctx), d.client, d.cfg)
	if err != nil {
		return fmt.Errorf("containerd has no usable snapshotter: %w", err)
	}
	d.snapshotter, d.imageLimit = name, imageLimit(diskOf(d.cfg.DataDir))
	os.RemoveAll(d.execDir()) // of commands whose agent was killed
	d.bridge, d.bridgeErr = openBridge(ctx, d.cfg)
	if d.bridgeErr != nil {
		d.log.Warn().Err(d.bridgeErr).Msg("no bridge network for containers")
	}
	return nil
}

// scope puts calls into our containerd namespace. The client's own log is silenced: what matters of
// it comes back as errors.
func (d *Driver) scope(ctx context.Context) context.Context {
	return log.WithLogger(namespaces.WithNamespace(ctx, Namespace), d.silent)
}

func silentLog() *log.Entry {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return logrus.NewEntry(logger)
}

// Variant is container.
func (d *Driver) Variant() api.Variant { return api.VariantContainer }

// Info asks the daemon, so that one that died is told. Reason also names a missing bridge network,
// without which the host's network still works.
func (d *Driver) Info(ctx context.Context) sandbox.Info {
	if d.client == nil {
		return sandbox.Info{Reason: d.reason}
	}
	ctx, cancel := context.WithTimeout(d.scope(ctx), dialTimeout)
	defer cancel()
	v, err := d.client.Version(ctx)
	if err != nil {
		return sandbox.Info{Reason: "containerd does not answer: " + err.Error()}
	}
	info := sandbox.Info{Available: true, Engine: "containerd " + engineVersion(v.Version)}
	if d.bridgeErr != nil {
		info.Reason = "host network only: " + d.bridgeErr.Error()
	}
	return info
}

// engineVersion strips a distribution's suffix: "1.6.20~ds1" and "v2.1.4" are 1.6.20 and 2.1.4.
func engineVersion(v string) string {
	v, _, _ = strings.Cut(v, "~")
	return strings.TrimPrefix(v, "v")
}

func (d *Driver) ready() error {
	if d.client == nil {
		return api.Errorf(api.CodeUnavailable, "containers are not available on this node: %s", d.reason)
	}
	return nil
}

// Close lets containers run on. A private daemon is stopped only when no container of this node
// needs it; else the next Open takes it up.
func (d *Driver) Close() error {
	if d.client == nil {
		return d.group.Close()
	}
	ctx, cancel := context.WithTimeout(d.scope(context.Background()), 10*time.Second)
	defer cancel()
	err := d.group.Close()
	left, listErr := d.own(ctx)
	if listErr == nil && len(left) == 0 {
		d.stop()
		return err
	}
	return errors.Join(err, d.client.Close())
}

// execDir holds the pipes of commands that run now.
func (d *Driver) execDir() string { return filepath.Join(d.cfg.RunDir, "exec") }

// stop ends what the driver itself started; no container is left.
func (d *Driver) stop() {
	os.RemoveAll(d.execDir()) // containerd's client leaves the empty folder
	defer os.Remove(d.cfg.RunDir)
	if d.bridge != nil {
		d.bridge.remove()
	}
	removeCgroups(cgroupRoot, d.cfg.NodeID)
	if d.client != nil {
		d.client.Close()
		d.client = nil
	}
	if d.private != nil {
		d.private.stop()
	}
}

// keyLocks serialises the work on one key; keys in use are few.
type keyLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// lock waits for key, or for ctx to end.
func (k *keyLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		if k.held == nil {
			k.held = map[string]chan struct{}{}
		}
		busy, taken := k.held[key]
		if !taken {
			free := make(chan struct{})
			k.held[key] = free
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, key)
				k.mu.Unlock()
				close(free)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
