package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/pkg/netns"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	types "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// pluginDirs are where distributions put the CNI plugins.
var pluginDirs = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}

// bridgePlugins are those that the bridge network runs.
var bridgePlugins = []string{"bridge", "host-local", "firewall"}

const (
	bridgeCommandTimeout = 5 * time.Second
	pluginTimeout        = 20 * time.Second
)

// bridge is the node's own network of containers: a bridge, a subnet that is free on this machine,
// addresses kept under the data folder, and a namespace per container that outlives its processes,
// without which the plugins leave rules behind.
type bridge struct {
	name    string // of the interface; at most 15 characters
	state   string // folder of addresses and cached results
	nsDir   string
	subnet  netip.Prefix
	plugins *libcni.CNIConfig
	conf    *libcni.NetworkConfigList
	log     zerolog.Logger
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// openBridge prepares the network; the first container creates the interface.
func openBridge(ctx context.Context, cfg Config) (*bridge, error) {
	if err := findPluginsIn(pluginDirs); err != nil {
		return nil, err
	}
	b := &bridge{
		name:  "cl" + hash(cfg.NodeID)[:12],
		state: filepath.Join(cfg.DataDir, "containers", "network"),
		nsDir: filepath.Join(cfg.RunDir, "netns"),
		log:   cfg.Log,
	}
	if err := os.MkdirAll(b.state, 0o700); err != nil {
		return nil, fmt.Errorf("bridge network: %w", err)
	}
	var err error
	if b.subnet, err = b.chooseSubnet(cfg.NodeID); err != nil {
		return nil, err
	}
	if b.conf, err = b.configuration(); err != nil {
		return nil, err
	}
	b.plugins = libcni.NewCNIConfigWithCacheDir(pluginDirs, filepath.Join(b.state, "cache"),
		&invoke.DefaultExec{RawExec: &invoke.RawExec{}, PluginDecoder: version.PluginDecoder{}})
	if err := b.guard(ctx, cfg.DenyPorts); err != nil {
		b.log.Warn().Err(err).Msg("containers can reach the cluster's own ports and link-local addresses: nft does not work")
	}
	return b, nil
}

func findPluginsIn(dirs []string) error {
	for _, name := range bridgePlugins {
		if _, err := invoke.FindInPath(name, dirs); err != nil {
			return fmt.Errorf("CNI plugin %s not found in %v; apt-get install containernetworking-plugins iptables, or use spec.container.network: host", name, dirs)
		}
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		return errors.New("iptables not found; apt-get install iptables, or use spec.container.network: host")
	}
	return nil
}

// chooseSubnet keeps the one of the last start while it is free, as containers may still use it.
func (b *bridge) chooseSubnet(node string) (netip.Prefix, error) {
	taken, err := b.takenPrefixes()
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("bridge network: %w", err)
	}
	file := filepath.Join(b.state, "subnet")
	if text, err := os.ReadFile(file); err == nil {
		if p, err := netip.ParsePrefix(string(text)); err == nil && isFree(p, taken) {
			return p, nil
		}
	}
	p, ok := freeSubnet(node, taken)
	if !ok {
		return netip.Prefix{}, errors.New("bridge network: no 10.x.y.0/24 is free on this machine")
	}
	if err := os.RemoveAll(filepath.Join(b.state, "addresses")); err != nil { // of another subnet
		return netip.Prefix{}, fmt.Errorf("bridge network: %w", err)
	}
	if err := os.WriteFile(file, []byte(p.String()), 0o600); err != nil {
		return netip.Prefix{}, fmt.Errorf("bridge network: %w", err)
	}
	return p, nil
}

// freeSubnet walks 10.64.0.0/10 in steps of a /24 from a place that the node's id gives.
func freeSubnet(node string, taken []netip.Prefix) (netip.Prefix, bool) {
	const count = 64 * 256
	sum := sha256.Sum256([]byte(node))
	start := int(sum[0])<<8 | int(sum[1])
	for i := range count {
		n := (start + i) % count
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + n>>8), byte(n), 0}), 24)
		if isFree(p, taken) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func isFree(p netip.Prefix, taken []netip.Prefix) bool {
	for _, t := range taken {
		if p.Overlaps(t) {
			return false
		}
	}
	return true
}

// takenPrefixes are this machine's addresses and routes, but for those of our own bridge and the
// default route.
func (b *bridge) takenPrefixes() ([]netip.Prefix, error) {
	var taken []netip.Prefix
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range ifaces {
		addrs, err := i.Addrs()
		if err != nil || i.Name == b.name {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				taken = append(taken, p.Masked())
			}
		}
	}
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil, err
	}
	return append(taken, parseRoutes(routes, b.name)...), nil
}

// configuration is the network as CNI wants it. The firewall plugin lets the containers' traffic
// pass where another program (Docker) has closed the FORWARD chain.
func (b *bridge) configuration() (*libcni.NetworkConfigList, error) {
	text, err := json.Marshal(map[string]any{
		"cniVersion": "0.4.0",
		"name":       "cloudless-" + b.name,
		"plugins": []any{
			map[string]any{
				"type": "bridge", "bridge": b.name, "isGateway": true, "ipMasq": true, "hairpinMode": true,
				"ipam": map[string]any{
					"type":    "host-local",
					"dataDir": filepath.Join(b.state, "addresses"),
					"ranges":  []any{[]any{map[string]string{"subnet": b.subnet.String()}}},
					"routes":  []any{map[string]string{"dst": "0.0.0.0/0"}},
				},
			},
			map[string]any{"type": "firewall", "backend": "iptables"},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("bridge network: %w", err)
	}
	return libcni.ConfListFromBytes(text)
}

// attach gives container id a namespace with an address.
func (b *bridge) attach(ctx context.Context, id string) (path, address string, err error) {
	ctx, cancel := context.WithTimeout(ctx, pluginTimeout)
	defer cancel()
	space, err := netns.NewNetNS(filepath.Join(b.nsDir, id))
	if err != nil {
		return "", "", fmt.Errorf("network namespace: %w", err)
	}
	if err := space.Do(func(ns.NetNS) error { return raiseLoopback() }); err != nil {
		return "", "", fmt.Errorf("network namespace: loopback: %w", err)
	}
	raw, err := b.plugins.AddNetworkList(ctx, b.conf, b.runtimeConf(id, space.GetPath()))
	if err != nil {
		return "", "", fmt.Errorf("bridge network: %w", err)
	}
	result, err := types.NewResultFromResult(raw)
	if err != nil {
		return "", "", fmt.Errorf("bridge network: %w", err)
	}
	if len(result.IPs) == 0 {
		return "", "", errors.New("bridge network: the plugin gave no address")
	}
	return space.GetPath(), result.IPs[0].Address.IP.String(), nil
}

func (b *bridge) runtimeConf(id, path string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: id, NetNS: path, IfName: "eth0"}
}

// addresses is the folder of those that are taken, each a file that begins with the id of its container.
func (b *bridge) addresses() string { return filepath.Join(b.state, "addresses", b.conf.Name) }

// holds tells whether container id has something of the network: a namespace, or after a restart of the machine
// its address alone.
func (b *bridge) holds(id string) bool {
	if _, err := os.Stat(filepath.Join(b.nsDir, id)); err == nil {
		return true
	}
	return slices.ContainsFunc(entries(b.addresses()), func(name string) bool {
		text, err := os.ReadFile(filepath.Join(b.addresses(), name))
		first, _, _ := strings.Cut(string(text), "\r\n")
		return err == nil && first == id
	})
}

// detach takes back the address and the rules, then removes the namespace. Its processes must be
// gone, the namespace not: only through it do the plugins find their rules.
func (b *bridge) detach(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, pluginTimeout)
	defer cancel()
	dir := filepath.Join(b.nsDir, id)
	spaces, _ := filepath.Glob(filepath.Join(dir, "*")) // ids hold no metacharacters
	path := ""
	if len(spaces) > 0 {
		path = spaces[0]
	}
	if err := b.plugins.DelNetworkList(ctx, b.conf, b.runtimeConf(id, path)); err != nil {
		return fmt.Errorf("bridge network: %w", err)
	}
	for _, s := range spaces {
		if err := netns.LoadNetNS(s).Remove(); err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	return nil
}

// remove takes the empty network away; the next container makes it again.
func (b *bridge) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), bridgeCommandTimeout)
	defer cancel()
	if _, err := net.InterfaceByName(b.name); err == nil {
		if out, err := exec.CommandContext(ctx, "ip", "link", "delete", b.name).CombinedOutput(); err != nil {
			b.log.Warn().Err(err).Bytes("output", out).Str("bridge", b.name).Msg("bridge is left behind")
		}
	}
	b.unguard(ctx)
	os.Remove(b.nsDir) // only if it is empty
}

// raiseLoopback brings lo up in the namespace of the calling thread.
func raiseLoopback() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
