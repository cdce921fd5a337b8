package web

import (
	"context"
	"io"

	"github.com/cloudless/cloudless/api"
)

// PutMode says what PutWorkload does when the workload exists already.
type PutMode int

// The modes.
const (
	PutApply  PutMode = iota // create it, or bring it to the given spec
	PutCreate                // CodeConflict if it exists
)

// Tables that Wait can watch.
const (
	TableWorkloads = "workloads"
	TableNodes     = "nodes"
	TableReplicas  = "replicas"
	TableEvents    = "events"
	TableTokens    = "tokens"
	TableServices  = "services"
	TablePolicies  = "policies"
	// TableAcks is what nodes have acknowledged of the endpoint table: its wait ends as soon as every
	// connected ready node has the table of the index, or a later one.
	TableAcks = "acks"
)

// Backend is what the REST API needs of a coordinator. It knows all the rules of the business; web
// knows HTTP. Errors are *api.Error, or are shown as internal ones. Implementations are safe for
// concurrent use, never keep a value they were given beyond the call unless they copy it, and
// return values that the caller may keep but not change.
type Backend interface {
	Storage

	// Authenticate finds who a bearer token belongs to; CodeUnauthorized for one that is unknown,
	// expired or revoked.
	Authenticate(ctx context.Context, token string) (api.Caller, error)

	// Audited runs a change that c asks for and has one line about it in the audit log before it
	// returns; without room for that line, do is not run. Object is asked for after do.
	Audited(c api.Caller, what string, object func() string, do func() error) error

	// Index is the index of the local state.
	Index() uint64
	// Wait blocks until the named table has changed past index, or ctx ends.
	Wait(ctx context.Context, table string, index uint64) error
	// Ready is nil when requests can be answered.
	Ready(ctx context.Context) error
	// Status sums the cluster up.
	Status(ctx context.Context) (api.ClusterStatus, error)

	// Workloads lists workloads with their Status filled in.
	Workloads(ctx context.Context, q api.ListQuery) (api.List[api.Workload], error)
	Workload(ctx context.Context, ns, name string) (api.Workload, error)
	// PutWorkload writes a workload. Here and below an ifMatch other than 0 must be its ModifyIndex.
	PutWorkload(ctx context.Context, c api.Caller, w api.Workload, mode PutMode, ifMatch uint64) (api.WriteResult, error)
	PlanWorkload(ctx context.Context, w api.Workload) (api.Plan, error)
	DeleteWorkload(ctx context.Context, c api.Caller, ns, name string, ifMatch uint64) (api.WriteResult, error)
	ScaleWorkload(ctx context.Context, c api.Caller, ns, name string, replicas int, ifMatch uint64) (api.WriteResult, error)
	RestartWorkload(ctx context.Context, c api.Caller, ns, name string, ifMatch uint64) (api.WriteResult, error)
	// RollbackWorkload returns to a version; 0 is the one before the current.
	RollbackWorkload(ctx context.Context, c api.Caller, ns, name string, version, ifMatch uint64) (api.WriteResult, error)
	History(ctx context.Context, ns, name string) (api.List[api.WorkloadVersion], error)
	Explain(ctx context.Context, ns, name string) (api.Explanation, error)
	Settled(ctx context.Context, ns, name string) (api.Settled, error)
	// Logs streams lines of text; with Follow until ctx ends.
	Logs(ctx context.Context, ns, name string, opt api.LogOptions) (io.ReadCloser, error)
	// Exec starts a command in a replica; an empty replica means any running one.
	Exec(ctx context.Context, c api.Caller, ns, name, replica string, command []string, tty, stdin bool) (ExecConn, error)

	Nodes(ctx context.Context, q api.ListQuery) (api.List[api.Node], error)
	Node(ctx context.Context, idOrName string) (api.Node, error)
	DrainNode(ctx context.Context, c api.Caller, idOrName string, r api.DrainRequest) (api.Node, error)
	CordonNode(ctx context.Context, c api.Caller, idOrName string, cordon bool) (api.Node, error)
	RemoveNode(ctx context.Context, c api.Caller, idOrName string) error
	RevokeNode(ctx context.Context, c api.Caller, idOrName, reason string) error

	Services(ctx context.Context, q api.ListQuery) (api.List[api.Service], error)
	Endpoints(ctx context.Context, q api.ListQuery) (api.List[api.Endpoint], error)
	Usage(ctx context.Context, q api.ListQuery) (api.List[api.ReplicaUsage], error)
	// Events are oldest first; with a Limit, the newest ones. Their ids begin with their Raft index.
	Events(ctx context.Context, q api.EventQuery) (api.List[api.Event], error)

	Tokens(ctx context.Context) (api.List[api.Token], error)
	CreateToken(ctx context.Context, c api.Caller, r api.TokenRequest) (api.Token, error)
	RevokeToken(ctx context.Context, c api.Caller, id string) error

	// Namespaces are those that have workloads or a policy.
	Namespaces(ctx context.Context, q api.ListQuery) (api.List[api.Namespace], error)
	Namespace(ctx context.Context, name string) (api.Namespace, error)
	PutPolicy(ctx context.Context, c api.Caller, p api.NamespacePolicy) (api.NamespacePolicy, error)
	DeletePolicy(ctx context.Context, c api.Caller, ns string) error

	// PutArtifact reads r to its end, and answers when enough nodes hold it durably. With an upload
	// session r is the manifest of what was put there. Bytes that do not hash to digest are refused.
	PutArtifact(ctx context.Context, c api.Caller, digest, kind, session string, r io.Reader) (api.Artifact, error)
	// Artifact is CodeNotFound for one that the cluster does not hold.
	Artifact(ctx context.Context, digest string) (api.Artifact, error)

	// Rotate begins to replace a key of the cluster; Rotations lists the last one of each key.
	Rotate(ctx context.Context, c api.Caller, r api.RotationRequest) (api.Rotation, error)
	Rotations(ctx context.Context) (api.List[api.Rotation], error)
	// CAPEM is the CA certificates that clients are to trust.
	CAPEM() []byte

	Members(ctx context.Context) ([]api.Member, error)
	RemoveMember(ctx context.Context, c api.Caller, idOrName string) error

	// Idempotent runs do once for a caller and key and remembers its answer in the replicated state;
	// later calls get the answer again, with replay true. The same key with another fingerprint is a
	// CodeConflict.
	Idempotent(ctx context.Context, c api.Caller, key string, fingerprint string, do func() (int, []byte, error)) (status int, body []byte, replay bool, err error)
}

// ExecConn is one running command. Messages are binary, as api.ExecStdin and its siblings say. Read
// and Write may be called concurrently with each other. Read gives io.EOF after the last message.
type ExecConn interface {
	Read(ctx context.Context) ([]byte, error)
	Write(ctx context.Context, message []byte) error
	Close() error
}
