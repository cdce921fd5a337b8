package api

import "time"

// Limits of what the cluster accepts. Each is enforced in one place and tested at, below and above.
const (
	MaxNameLen             = 63       // DNS label (RFC 1123)
	MaxHostLen             = 253      // DNS name
	MaxReplicas            = 10_000   // of one workload
	MaxPriority            = 100      // priority is 0 … MaxPriority
	MaxManifestBytes       = 1 << 20  // one manifest file, all its documents
	MaxManifestDocuments   = 256      // documents in one file
	MaxManifestDepth       = 64       // nesting of mappings and sequences
	MaxLabels              = 64       // labels of one object
	MaxLabelKeyLen         = 128      // bytes
	MaxLabelValueLen       = 256      // bytes
	MaxEnv                 = 256      // variables
	MaxEnvBytes            = 64 << 10 // all names and values together
	MaxPorts               = 16
	MaxHosts               = 32
	MaxArgs                = 256
	MaxTolerations         = 32
	MaxAffinities          = 32
	MaxEgress              = 64      // rules of one workload
	MaxConcurrency         = 1_024   // requests that one wasm replica handles at the same time
	MaxSignatureBytes      = 2 << 10 // text of a module's signature
	MaxSigners             = 16      // keys of which a namespace requires one
	MaxNamespacePolicies   = 1_000   //
	MaxTaints              = 32
	MaxHistory             = 10        // versions kept of a workload, the current one included
	MaxEvents              = 10_000    // events of state changes kept by the cluster
	MaxNodeEvents          = 1_000     // events a node keeps in its own ring
	MaxInventory           = 256       // artifacts that a node tells it holds, and as many prepared versions
	MaxDiskFullBytes       = 512       // of what a node says of a full disk
	MaxBodyBytes           = 4 << 20   // a JSON request body
	MaxReportBytes         = 8 << 20   // a node's report of its replicas, all of them in a new epoch
	MaxReasonBytes         = 1 << 10   // of why a replica is as it is; the rest is cut off
	MaxCommitBytes         = 16 << 20  // the end of an upload: a manifest of 1 TiB in large chunks
	MaxHeaderBytes         = 32 << 10  // an HTTP request head
	MaxOwnHeaderBytes      = 4 << 10   // what an ingress may add to one on the way to another node
	MaxArtifactBytes       = 4 << 30   // one uploaded module or image
	MaxModuleBytes         = 32 << 20  // one wasm module
	MaxListLimit           = 10_000    // items in one page of a list
	DefaultListLimit       = 1_000     //
	MaxIdempotencyKeys     = 10_000    // remembered answers to writes
	MaxIdempotencyKeyLen   = 128       //
	MaxTokens              = 10_000    //
	MaxNodes               = 10_000    //
	MaxRevoked             = 10_000    // revoked members that agents are told of
	MaxWorkloads           = 10_000    //
	MaxLogLineBytes        = 16 << 10  // a longer line is cut
	LogFileBytes           = 4 << 20   // a replica's log file, before it is rotated
	LogFilesKept           = 3         // rotated files kept beside it
	DefaultLogBytesPerSec  = 1_000_000 // log output of one replica
	DefaultWasmMemory      = 64 << 20
	DefaultContainerMemory = 256 << 20
	DefaultCPUMilli        = 50 // reserved when a manifest names no cpu
)

// Times that make up the liveness and identity rules of the design.
const (
	HeartbeatInterval  = time.Second
	MaxBlockingWait    = 5 * time.Minute
	DefaultWait        = 30 * time.Second
	DefaultJoinTTL     = time.Hour
	LeafLifetime       = 72 * time.Hour
	DefaultHTTPTimeout = 30 * time.Second // one request to a wasm guest
	MaxHTTPTimeout     = time.Hour        // the longest that a manifest may allow
	MinIdleAfter       = time.Second      // before the instances of an idle wasm replica are dropped
	MaxIdleAfter       = 24 * time.Hour   //
	IdempotencyWindow  = 24 * time.Hour
	GoodbyeGrace       = 60 * time.Second // a node that said goodbye(restart) is expected back within this
)
