package api

import "time"

// APIVersion and KindWorkload head every manifest.
const (
	APIVersion       = "cloudless/v1"
	KindWorkload     = "Workload"
	DefaultNamespace = "default"
)

// Workload is what a user wants to run: its manifest, and how it fares.
type Workload struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Metadata   Metadata        `json:"metadata"`
	Spec       WorkloadSpec    `json:"spec"`
	Status     *WorkloadStatus `json:"status,omitempty"`
}

// Metadata names a workload. UID, Version and the indexes are set by the cluster and ignored on input.
type Metadata struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`

	UID         string     `json:"uid,omitempty"`     // new for each creation under a name
	Version     uint64     `json:"version,omitempty"` // counts changes of the spec, from 1
	CreatedAt   *time.Time `json:"createdAt,omitempty"`
	CreateIndex uint64     `json:"createIndex,omitempty"`
	ModifyIndex uint64     `json:"modifyIndex,omitempty"` // compare-and-set with If-Match
}

// Ref names a workload within a cluster.
type Ref struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Ref is the workload's full name.
func (w *Workload) Ref() Ref { return Ref{w.Metadata.Namespace, w.Metadata.Name} }

// String is "namespace/name".
func (r Ref) String() string { return r.Namespace + "/" + r.Name }

// WorkloadSpec is the part of the manifest under "spec". With both Wasm and Container, each node
// runs the one that it can, Preferred first (wasm when it is empty).
type WorkloadSpec struct {
	Replicas     *int              `json:"replicas,omitempty"` // default 1
	Priority     int               `json:"priority,omitempty"` // 0 … 100, higher is placed first
	Preferred    Variant           `json:"preferred,omitempty"`
	Wasm         *WasmSpec         `json:"wasm,omitempty"`
	Container    *ContainerSpec    `json:"container,omitempty"`
	Env          map[string]string `json:"env,omitempty"`
	Secrets      []SecretRef       `json:"secrets,omitempty"`
	Resources    Resources         `json:"resources,omitzero"`
	Ports        []Port            `json:"ports,omitempty"`
	Hosts        []string          `json:"hosts,omitempty"`
	Volumes      []Volume          `json:"volumes,omitempty"`
	Buckets      []BucketGrant     `json:"buckets,omitempty"`
	Probes       Probes            `json:"probes,omitzero"`
	Restart      Restart           `json:"restart,omitzero"`
	Rollout      Rollout           `json:"rollout,omitzero"`
	Placement    Placement         `json:"placement,omitzero"`
	OnDisconnect string            `json:"onDisconnect,omitempty"` // keep | stop
	Exclusive    bool              `json:"exclusive,omitempty"`
	Schedule     string            `json:"schedule,omitempty"` // jobs only
	Egress       *Egress           `json:"egress,omitempty"`
}

// Variant is the kind of sandbox that a replica runs in.
type Variant string

// The variants.
const (
	VariantWasm      Variant = "wasm"
	VariantContainer Variant = "container"
)

// WasmMode is how a module is driven.
type WasmMode string

// The modes: http answers requests, service runs until stopped, job runs to its end.
const (
	ModeHTTP    WasmMode = "http"
	ModeService WasmMode = "service"
	ModeJob     WasmMode = "job"
)

// WasmSpec describes a WebAssembly module. In the cluster Module is always a digest
// ("sha256:" and 64 hex digits); the command line uploads a path and puts the digest in its place.
type WasmSpec struct {
	Module         string   `json:"module"`
	Signature      string   `json:"signature,omitempty"` // text of a .minisig file
	Mode           WasmMode `json:"mode,omitempty"`      // default http
	Interface      string   `json:"interface,omitempty"` // cl | wagi | listener; found from the module when empty
	Isolation      string   `json:"isolation,omitempty"` // request | instance | fresh
	Args           []string `json:"args,omitempty"`
	Timeout        Duration `json:"timeout,omitzero"` // of one http request; default 30s
	MaxConcurrency int      `json:"maxConcurrency,omitempty"`
	IdleAfter      Duration `json:"idleAfter,omitzero"`
}

// What of a guest's memory one request leaves for the next.
const (
	IsolationRequest  = "request"  // nothing: it starts from an image taken once
	IsolationInstance = "instance" // everything
	IsolationFresh    = "fresh"    // nothing: it starts from an instance made for it
)

// ContainerSpec describes an OCI container. Image is a registry reference, or the digest of an
// uploaded OCI layout tarball.
type ContainerSpec struct {
	Image        string   `json:"image"`
	Command      []string `json:"command,omitempty"`
	Args         []string `json:"args,omitempty"`
	User         string   `json:"user,omitempty"` // uid, uid:gid or a name in the image
	RunAsRoot    bool     `json:"runAsRoot,omitempty"`
	WritableRoot bool     `json:"writableRoot,omitempty"`
	Capabilities []string `json:"capabilities,omitempty"` // added; none by default
	Network      string   `json:"network,omitempty"`      // bridge (default) | host
}

// SecretRef puts a secret into an environment variable.
type SecretRef struct {
	Name string `json:"name"`
	Env  string `json:"env"`
}

// Resources are reserved on the node and enforced there.
type Resources struct {
	CPU       MilliCPU `json:"cpu,omitzero"`
	Memory    Bytes    `json:"memory,omitzero"`
	Storage   Bytes    `json:"storage,omitzero"`
	Bandwidth string   `json:"bandwidth,omitempty"`
}

// Port protocols.
const (
	ProtocolHTTP = "http"
	ProtocolTCP  = "tcp"
)

// Port is where a replica listens. An http port is reached by Host through the ingress; a tcp port
// is published on every agent under Publish (default: the same number).
type Port struct {
	Name     string `json:"name,omitempty"`
	Port     int    `json:"port"`
	Protocol string `json:"protocol,omitempty"` // http (default) | tcp
	Publish  int    `json:"publish,omitempty"`
}

// Probes tell whether a replica may get traffic (readiness) and whether it must be restarted (liveness).
type Probes struct {
	Readiness *Probe `json:"readiness,omitempty"`
	Liveness  *Probe `json:"liveness,omitempty"`
}

// Probe is one check; exactly one of HTTP, TCP and Exec is set.
type Probe struct {
	HTTP         *HTTPProbe `json:"http,omitempty"`
	TCP          *TCPProbe  `json:"tcp,omitempty"`
	Exec         *ExecProbe `json:"exec,omitempty"`
	InitialDelay Duration   `json:"initialDelay,omitzero"`
	Interval     Duration   `json:"interval,omitzero"` // default 1s readiness, 5s liveness
	Timeout      Duration   `json:"timeout,omitzero"`  // default 1s
	Failures     int        `json:"failures,omitempty"`
}

// HTTPProbe passes on a status of 200 to 399.
type HTTPProbe struct {
	Path string `json:"path"`
	Port int    `json:"port,omitempty"` // default: the first http port
}

// TCPProbe passes when a connection opens.
type TCPProbe struct {
	Port int `json:"port"`
}

// ExecProbe passes on exit code 0.
type ExecProbe struct {
	Command []string `json:"command"`
}

// Restart policies.
const (
	RestartAlways    = "always"
	RestartOnFailure = "onFailure"
	RestartNever     = "never"
)

// Restart says what follows an exit. Backoff doubles up to MaxBackoff and starts anew after a
// replica has run for ten times MaxBackoff.
type Restart struct {
	Policy     string   `json:"policy,omitempty"`    // default always; onFailure for jobs
	Backoff    Duration `json:"backoff,omitzero"`    // default 1s
	MaxBackoff Duration `json:"maxBackoff,omitzero"` // default 1m
}

// Rollout says how a new version replaces the old one.
type Rollout struct {
	Strategy     string   `json:"strategy,omitempty"` // rolling
	MaxSurge     *int     `json:"maxSurge,omitempty"` // 1
	MinAvailable *int     `json:"minAvailable,omitempty"`
	Canary       int      `json:"canary,omitempty"`
	AutoRollback bool     `json:"autoRollback,omitempty"`
	Deadline     Duration `json:"deadline,omitzero"`
}

// Placement narrows and orders the nodes that a replica may run on.
type Placement struct {
	Regions      []string          `json:"regions,omitempty"`
	Zones        []string          `json:"zones,omitempty"`
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	Spread       *Spread           `json:"spread,omitempty"`
	Affinity     []Affinity        `json:"affinity,omitempty"`
	AntiAffinity []AntiAffinity    `json:"antiAffinity,omitempty"`
	Tolerations  []Toleration      `json:"tolerations,omitempty"`
}

// Spread evens replicas out over zones, regions or nodes: a replica goes to where fewest are.
type Spread struct {
	By string `json:"by"` // zone | region | node
}

// Affinity prefers nodes that run a workload (of the same namespace).
type Affinity struct {
	Workload string `json:"workload"`
	Weight   int    `json:"weight,omitempty"` // 1 … 100, default 50
}

// AntiAffinity forbids nodes that run a workload (of the same namespace), itself included.
type AntiAffinity struct {
	Workload string `json:"workload"`
}

// Taint effects.
const (
	EffectNoSchedule = "NoSchedule"
)

// Toleration allows a tainted node. An empty Key tolerates every taint of Effect; an empty Value
// every value of Key.
type Toleration struct {
	Key    string `json:"key,omitempty"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect,omitempty"`
}

// Egress lists what a replica may reach (see EgressRule); nothing else can be reached.
type Egress struct {
	Allow []string `json:"allow,omitempty"`
}

// Phase sums a workload up.
type Phase string

// The phases.
const (
	PhasePending  Phase = "pending"  // no replica is ready yet
	PhaseRunning  Phase = "running"  // all replicas are ready
	PhaseDegraded Phase = "degraded" // some are
	PhaseUpdating Phase = "updating" // a rollout is under way
	PhaseComplete Phase = "complete" // a job whose replicas all ended well
	PhaseFailed   Phase = "failed"   // replicas ended and will not be restarted
	PhaseDeleting Phase = "deleting"
)

// Phases are all of them.
var Phases = []Phase{PhasePending, PhaseRunning, PhaseDegraded, PhaseUpdating, PhaseComplete, PhaseFailed, PhaseDeleting}

// WorkloadStatus is how a workload fares.
type WorkloadStatus struct {
	Phase    Phase           `json:"phase"`
	Desired  int             `json:"desired"`
	Ready    int             `json:"ready"`
	Message  string          `json:"message,omitempty"` // why it is not running, when it is not
	Replicas []ReplicaStatus `json:"replicas"`
}

// Digest is the artifact that variant v of the spec runs, if it is one of the cluster's own.
func (s *WorkloadSpec) Digest(v Variant) (string, bool) {
	switch {
	case v == VariantWasm && s.Wasm != nil && IsDigest(s.Wasm.Module):
		return s.Wasm.Module, true
	case v == VariantContainer && s.Container != nil && IsDigest(s.Container.Image):
		return s.Container.Image, true
	}
	return "", false
}

// Has tells whether the spec has variant v.
func (s *WorkloadSpec) Has(v Variant) bool {
	return v == VariantWasm && s.Wasm != nil || v == VariantContainer && s.Container != nil
}

// IsJob tells whether replicas are meant to end by themselves.
func (s *WorkloadSpec) IsJob() bool {
	return s.Restart.Policy == RestartNever || s.Restart.Policy == RestartOnFailure
}

// HTTPPort is the first http port, if there is one.
func (s *WorkloadSpec) HTTPPort() (int, bool) {
	for _, p := range s.Ports {
		if p.Protocol == ProtocolHTTP {
			return p.Port, true
		}
	}
	return 0, false
}

// ServesHTTP tells whether the ingress routes requests to the workload.
func (s *WorkloadSpec) ServesHTTP() bool {
	if s.Wasm != nil && s.Wasm.Mode == ModeHTTP {
		return true
	}
	_, ok := s.HTTPPort()
	return ok
}

// Count is the number of replicas asked for.
func (s *WorkloadSpec) Count() int {
	if s.Replicas == nil {
		return 1
	}
	return *s.Replicas
}
