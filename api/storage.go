package api

import "time"

// ALPNChunks carries chunks: node|server → node; HTTP/1.1, which moves bulk faster than HTTP/2.
const ALPNChunks = "cloudless-chunks/1"

// ALPNMeta carries what nodes ask of the object store's metadata all the time: node → server; lines
// (internal/link), on which a question and its answer have a kind.
const ALPNMeta = "cloudless-meta/1"

// Kinds of messages on a line.
const (
	LineMetaApply byte = 1 // meta.Commands, packed → meta.Results; forwarded to the leader
	LineMetaRead  byte = 2 // as PathMetaRead
	LineAnswer    byte = 3 // what was asked for
	LineError     byte = 4 // ErrorBody
)

// MaxMetaBytes bounds commands that are sent at once: what an entry of the log may have, and what is round it.
const MaxMetaBytes = 8<<20 + 1<<10

// Paths of the object store on a coordinator (ALPNNode).
const (
	PathMetaRead     = "/node/v1/meta/read"     // POST meta.Queries → meta.Answers, packed; any coordinator, strongly consistent
	PathStoreMembers = "/node/v1/store/members" // GET ?revision= → StoreMembers, or 204 when they are the same
	PathStoreShort   = "/node/v1/store/short"   // POST StoreShort → {}: chunks that need a repair soon
	PathStoreKey     = "/node/v1/store/key"     // POST SigningKeyRequest → SigningKey
)

// Paths that an agent serves to coordinators on its node port (ALPNNode).
const (
	PathStoreScrub   = "/store/v1/scrub"   // POST {} → {}: read the whole store now
	PathStoreCollect = "/store/v1/collect" // POST StoreCollect → {}: collect now
)

// StoreCollect asks a node to collect. Anyway goes on where a pass would be held.
type StoreCollect struct {
	Anyway bool `json:"anyway,omitempty"`
}

// SigningKeyRequest asks for what signatures of one day are checked with.
type SigningKeyRequest struct {
	AccessKey string `json:"accessKey"`
	Date      string `json:"date"`   // YYYYMMDD
	Region    string `json:"region"` // as the signer writes it: any
}

// MaxRegionLen bounds the region of a signature.
const MaxRegionLen = 64

// SigningKey is what an agent may know of an S3 key: what the secret gives for the day and region, from
// which the secret cannot be had, and what the key is good for.
type SigningKey struct {
	Key      []byte     `json:"key"`
	Bucket   string     `json:"bucket,omitempty"` // the only one; "": all
	ReadOnly bool       `json:"readOnly,omitempty"`
	Expires  *time.Time `json:"expires,omitempty"`
}

// MaxStoreShort is how many chunks one StoreShort may name.
const MaxStoreShort = 1_000

// StoreMembers are the nodes that keep chunks. Revision changes whenever anything else in it does.
type StoreMembers struct {
	Revision uint64        `json:"revision"`
	Members  []StoreMember `json:"members"`
	// HeldUntil is before when no node may collect: what the metadata says may be older than what the
	// nodes hold, after a restore or in a new epoch.
	HeldUntil time.Time `json:"heldUntil,omitzero"`
}

// StoreMember is a node as the object store sees it.
type StoreMember struct {
	ID     string           `json:"id"`
	Name   string           `json:"name"`
	Region string           `json:"region,omitempty"`
	Zone   string           `json:"zone,omitempty"`
	Weight uint64           `json:"weight"` // its capacity in MiB, at least 1
	State  StoreMemberState `json:"state"`
}

// StoreMemberState is what a member takes part in.
type StoreMemberState string

// The states. Every member counts for the number of copies, whatever its state.
const (
	StoreReady    StoreMemberState = "ready"    // takes chunks
	StoreFull     StoreMemberState = "full"     // is read, and takes nothing: a full disk, or a suspect node
	StoreDraining StoreMemberState = "draining" // is read until its chunks are elsewhere
	StoreLost     StoreMemberState = "lost"     // cannot be reached
)

// StoreStats is what a node says of its chunk store in each heartbeat; bytes.
type StoreStats struct {
	Capacity    int64     `json:"capacity"` // what the store may use
	Used        int64     `json:"used"`
	Chunks      int64     `json:"chunks"`
	ChunkBytes  int64     `json:"chunkBytes"` // of the chunks, before compression
	Quarantined int64     `json:"quarantined,omitempty"`
	Held        int64     `json:"held,omitempty"` // bytes that nobody refers to, and that are kept since they are so many
	Full        bool      `json:"full,omitempty"`
	Failed      string    `json:"failed,omitempty"`    // why it takes nothing until the agent starts again
	ScrubbedAt  time.Time `json:"scrubbedAt,omitzero"` // when the last whole pass ended
	Scrubbed    int64     `json:"scrubbed,omitempty"`  // chunks that the pass under way has read
}

// StoreShort names chunks ("sha256:…") that have fewer copies than they should, or a damaged one.
type StoreShort struct {
	Chunks []string `json:"chunks"`
}
