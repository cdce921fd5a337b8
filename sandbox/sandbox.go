// Package sandbox is the seam between an agent and what runs a replica. A Driver turns a Spec into a
// running Handle; wasm (wazero), oci (containerd) and fake (scripted, in memory) implement it, and
// drivertest holds the behaviour that all of them share.
//
// A driver knows nothing of workloads, probes or restart policies: it starts one thing once and
// tells how it ended. Restarting is agent/supervise's decision.
package sandbox

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/cloudless/cloudless/api"
)

// Driver starts replicas of one variant. All methods are safe for concurrent use.
type Driver interface {
	// Variant is what the driver runs.
	Variant() api.Variant
	// Info tells whether the driver works on this machine, and why not.
	Info(ctx context.Context) Info
	// Prepare makes a later Start quick: checks, compiles, pulls or unpacks the artifact. It is
	// idempotent. Its error says what is wrong with the artifact (CodeInvalid: it will never work;
	// anything else: it may work later).
	Prepare(ctx context.Context, spec Spec) error
	// Start runs a replica. ctx bounds the start alone, not the replica's life. A failed Start leaves
	// nothing behind.
	Start(ctx context.Context, spec Spec) (Handle, error)
	// Adopt takes up a replica that an earlier process of this agent started, if it can outlive one;
	// CodeNotFound when it is gone. Drivers whose replicas die with the process always say so.
	Adopt(ctx context.Context, spec Spec) (Handle, error)
	// Clean removes leftovers of this node (containers, snapshots, networks) whose replica id is not
	// in keep.
	Clean(ctx context.Context, keep map[string]bool) error
	// Close releases the driver. Replicas that can outlive the process go on running.
	Close() error
}

// Trimmer is a Driver that keeps what it has made of artifacts, compiled code or unpacked images, so
// that the next start is quick, and bounds it.
type Trimmer interface {
	// Trim removes what is over the driver's bound, the longest unused first. keep holds the digests and
	// image references that assignments name: what is kept under such a name stays.
	Trim(ctx context.Context, keep map[string]bool) error
}

// Info describes a driver on this machine.
type Info struct {
	Available bool
	Reason    string // why it is not available
	Engine    string // wasm: "compiler" or "interpreter"; oci: "containerd 1.6.20"
}

// Spec is one replica to start. It is complete: a driver looks nothing up.
type Spec struct {
	ID       string  // replica id, unique for ever
	NodeID   string  // owner of the replica; part of names and labels of containers
	Cluster  string  // cluster id
	Workload api.Ref //
	Attempt  int     // counts starts of this replica, from 0

	// Exactly one is set, as the driver's variant says.
	Wasm      *api.WasmSpec
	Container *api.ContainerSpec

	// Artifact is the local file of the module or the OCI tarball, verified, when the spec names a
	// digest; "" for a registry reference. Digest is its "sha256:…".
	Artifact string
	Digest   string

	Env      map[string]string
	CPU      api.MilliCPU // 0: no limit
	Memory   api.Bytes    // 0: the driver's default
	Ports    []api.Port
	Mounts   []Mount
	Egress   []string // what a wasm guest may reach, as api.Egress.Allow has it
	Hostname string

	Buckets []api.BucketGrant // what a wasm guest may reach of Storage
	Storage Storage           // nil: no buckets can be reached

	// Log receives what the replica writes. Drivers whose replicas outlive the process write to
	// LogPath directly instead (the driver's runtime owns the file while it runs) and leave Log alone.
	Log     io.Writer
	LogPath string
}

// Mount shows a host folder to the replica.
type Mount struct {
	Source   string // absolute host path
	Target   string // absolute path inside
	ReadOnly bool
	Limit    api.Bytes // of all that is in it, where the driver can enforce one by itself; 0: none
}

// Handle is one running replica.
type Handle interface {
	// ID is the replica's id.
	ID() string
	// Done is closed when the replica has ended and Exit is known.
	Done() <-chan struct{}
	// OnEnd has f called when Done is closed, at once if it is. f must not block.
	OnEnd(f func())
	// Exit tells how it ended; valid once Done is closed.
	Exit() Exit
	// Stop ends the replica: politely first, by force after grace or when ctx ends. It returns when
	// everything of it is gone (network, snapshot). Stopping twice, or what has ended, is no error.
	Stop(ctx context.Context, grace time.Duration) error
	// Endpoint is how the agent reaches the replica's network side.
	Endpoint() Endpoint
	// Exec runs a command beside the replica's main process; CodeInvalid with the reason where that
	// cannot be (wasm).
	Exec(ctx context.Context, req ExecRequest) (exitCode int, err error)
	// Usage is what the replica uses now.
	Usage(ctx context.Context) (Usage, error)
}

// Exit is how a replica ended.
type Exit struct {
	Code   int    // 0 is success; 128+n for signal n; 137 after a forced stop or an OOM kill
	OOM    bool   // it was killed for its memory
	Reason string // one line for people: "exited with code 3", "out of memory (limit 64Mi)", "trap: unreachable in foo"
	At     time.Time
}

// Endpoint is where a replica's requests go: Handler for a wasm http guest, Host for a container,
// whose ports are the spec's.
type Endpoint struct {
	Handler http.Handler // serves one http request in the guest; nil if it serves none
	Host    string       // IP address of the container; "" if it has none
}

// ExecRequest is one command to run in a container.
type ExecRequest struct {
	Command []string
	TTY     bool
	Stdin   io.Reader // nil: none
	Stdout  io.Writer
	Stderr  io.Writer           // unused with TTY
	Resize  <-chan api.TermSize // may be nil
	Signals <-chan string       // "INT", "TERM", …; may be nil
}

// Usage is what a replica uses: CPU time and fuel so far, memory in bytes and instances now.
type Usage struct {
	CPUTime   time.Duration
	Fuel      int64 // as Cost has it
	Memory    int64
	Instances int // of a wasm guest
}

// Cost is what one request has used of a replica.
type Cost struct {
	Fuel int64         // about one for each instruction of a wasm guest; 0 where nothing is counted
	CPU  time.Duration // spent in the guest
}

// Plus is what both have used.
func (c Cost) Plus(other Cost) Cost { return Cost{c.Fuel + other.Fuel, c.CPU + other.CPU} }

// Minus is what has been used since an earlier count.
func (c Cost) Minus(before Cost) Cost { return Cost{c.Fuel - before.Fuel, c.CPU - before.CPU} }

type costKey struct{}

// WithCost makes a request's context carry a place for its cost, which Count fills.
func WithCost(ctx context.Context) (context.Context, *Cost) {
	c := &Cost{}
	return context.WithValue(ctx, costKey{}, c), c
}

// Count adds to what a request has used, if anybody asked. A handler calls it before it returns.
func Count(ctx context.Context, used Cost) {
	if c, ok := ctx.Value(costKey{}).(*Cost); ok {
		*c = c.Plus(used)
	}
}
