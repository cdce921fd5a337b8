package oci

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// Limits that every container has.
const (
	pidsLimit   = 512
	tmpfsSize   = "size=64m"
	openFiles   = 65536           // or the agent's own limit, where that is lower
	cfsPeriod   = 100_000         // µs
	minCFSQuota = cfsPeriod / 100 // µs; the kernel refuses less than 1 ms
)

// networkHost is spec.container.network for the host's own network; all else is the bridge.
const networkHost = "host"

// plan is what one start has decided before containerd is asked.
type plan struct {
	id      string // container id
	spec    sandbox.Spec
	image   containerd.Image
	config  ocispec.ImageConfig
	argv    []string
	dir     string // the container's folder under the data folder
	netns   string // path; "" on the host's network
	address string // where the container is reached
}

// specOpts is the container's specification: the image's wishes first, then what we insist on.
// The user is checked last, when names have been looked up in the image.
func (p *plan) specOpts() []oci.SpecOpts {
	c := p.spec.Container
	opts := []oci.SpecOpts{
		oci.WithDefaultSpec(),
		oci.WithDefaultUnixDevices,
		oci.WithoutRunMount, // it is root's alone; ours is for any user
		withImage(p.config),
		oci.WithProcessArgs(p.argv...),
		oci.WithEnv(environment(p.spec)),
		oci.WithHostname(p.hostname()),
		oci.WithMounts(p.mounts()),
		oci.WithCgroup(cgroupPath(p.spec.NodeID, p.id)),
		withLimits(p.spec),
		withUser(cmp.Or(c.User, p.config.User), c.Image),
	}
	if !c.WritableRoot {
		opts = append(opts, oci.WithRootFSReadonly())
	}
	opts = append(opts, p.network(), withCapabilities(c.Capabilities), oci.WithNoNewPrivileges,
		seccomp.WithDefaultProfile()) // after the capabilities, which it reads
	return append(opts, refuseRoot(c))
}

// refuseRoot ends the list: by now a user's name has become a number.
func refuseRoot(c *api.ContainerSpec) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
		if s.Process.User.UID == 0 && !c.RunAsRoot {
			return errRoot(c.Image)
		}
		return nil
	}
}

func (p *plan) hostname() string {
	if p.spec.Hostname != "" {
		return p.spec.Hostname
	}
	return p.spec.ID
}

// network joins the replica's own namespace, or the host's. In its own a container may listen on any
// port without a capability, as no other's ports can be taken there.
func (p *plan) network() oci.SpecOpts {
	if p.netns == "" {
		return oci.WithHostNamespace(specs.NetworkNamespace)
	}
	return oci.Compose(
		oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: p.netns}),
		func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}
			return nil
		})
}

// mounts are what the container sees besides its image, /proc, /sys and /dev.
func (p *plan) mounts() []specs.Mount {
	mounts := []specs.Mount{tmpfs("/tmp"), tmpfs("/run")}
	for _, name := range networkFiles {
		mounts = append(mounts, bind(filepath.Join(p.dir, name), "/etc/"+name, true))
	}
	for _, m := range p.spec.Mounts {
		mounts = append(mounts, bind(m.Source, m.Target, m.ReadOnly))
	}
	return mounts
}

func tmpfs(target string) specs.Mount {
	return specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs",
		Options: []string{"nosuid", "nodev", "mode=1777", tmpfsSize}}
}

func bind(source, target string, readOnly bool) specs.Mount {
	access := "rw"
	if readOnly {
		access = "ro"
	}
	return specs.Mount{Destination: target, Type: "bind", Source: source,
		Options: []string{"rbind", "rprivate", "nosuid", "nodev", access}}
}

// environment adds the spec's variables to the image's; PORT tells a server where it is expected.
func environment(spec sandbox.Spec) []string {
	env := []string{}
	if _, given := spec.Env["PORT"]; !given {
		for _, p := range spec.Ports {
			if p.Protocol == api.ProtocolHTTP || p.Protocol == "" {
				env = append(env, "PORT="+strconv.Itoa(p.Port))
				break
			}
		}
	}
	for k, v := range spec.Env {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return env
}

// withCapabilities leaves exactly the listed ones. They are ambient too, as otherwise a user that is
// not root would not have them.
func withCapabilities(names []string) oci.SpecOpts {
	caps := []string{}
	for _, name := range names {
		caps = append(caps, "CAP_"+strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
	}
	return oci.Compose(oci.WithCapabilities(caps), oci.WithAmbientCapabilities(caps))
}

// memoryLimit is the spec's, or the default for containers.
func memoryLimit(spec sandbox.Spec) api.Bytes {
	if spec.Memory > 0 {
		return spec.Memory
	}
	return api.DefaultContainerMemory
}

func withLimits(spec sandbox.Spec) oci.SpecOpts {
	limit := int64(memoryLimit(spec))
	opts := []oci.SpecOpts{oci.WithMemoryLimit(uint64(limit)), oci.WithPidsLimit(pidsLimit), oci.WithRlimit(fileLimit())}
	if swapAccounted(cgroupRoot) {
		opts = append(opts, oci.WithMemorySwap(limit))
	}
	if spec.CPU > 0 {
		opts = append(opts, oci.WithCPUCFS(max(int64(spec.CPU)*cfsPeriod/1000, minCFSQuota), cfsPeriod))
	}
	return oci.Compose(opts...)
}

// fileLimit asks for no more than the agent itself may have: raising a hard limit takes a capability
// that not every machine gives to root.
func fileLimit() *specs.POSIXRlimit {
	n := uint64(openFiles)
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err == nil {
		n = min(n, own.Max)
	}
	return &specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Hard: n, Soft: n}
}

// containerID begins with the node's id. Containerd allows 76 characters.
func containerID(node, replica string) string {
	id := node + "-" + replica
	if len(id) <= 76 {
		return id
	}
	return fmt.Sprintf("%.32s-%s", node, hash(id)[:40])
}
