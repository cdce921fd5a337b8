package api

import "time"

// Health of the object store.
const (
	StorageOK          = "ok"
	StorageDegraded    = "degraded"    // copies are missing, or a node is full, damaged or away
	StorageUnavailable = "unavailable" // too few nodes for a write
)

// BucketView is a bucket with what it holds.
type BucketView struct {
	Bucket
	Usage BucketUsage `json:"usage"`
}

// ObjectPut is what a client says of an object that it puts.
type ObjectPut struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	ObjectHead
	Size     int64  `json:"size"`               // -1: not known before its end
	IfAbsent bool   `json:"ifAbsent,omitempty"` // there must be no such object
	IfMatch  string `json:"ifMatch,omitempty"`  // the ETag that the present one must have, or * for any
}

// ObjectCopy is the body of the POST that makes an object of another's bytes.
type ObjectCopy struct {
	FromBucket    string      `json:"fromBucket"`
	FromKey       string      `json:"fromKey"`
	SourceIfMatch string      `json:"sourceIfMatch,omitempty"` // the ETag that the source must have
	Head          *ObjectHead `json:"head,omitempty"`          // absent: the source's
}

// ObjectList is a page of a bucket. Prefixes are what keys have in common up to the delimiter.
type ObjectList struct {
	Items    []*Object `json:"items"`
	Prefixes []string  `json:"prefixes,omitempty"`
	Index    uint64    `json:"index"`
	Cursor   string    `json:"cursor,omitempty"` // "" when it is the last page
}

// UploadRequest opens an upload session.
type UploadRequest struct {
	Bucket string `json:"bucket"`
}

// MissingRequest asks which chunks ("sha256:…") of an upload are to be sent; MissingAnswer tells.
type MissingRequest struct {
	Chunks []string `json:"chunks"`
}

// MissingAnswer names those of the chunks that the cluster lacks.
type MissingAnswer struct {
	Missing []string `json:"missing"`
}

// UploadCommit makes an object of the chunks of an upload.
type UploadCommit struct {
	ObjectPut
	Manifest []byte `json:"manifest"` // as chunkstore/split encodes it
}

// StorageReport is how the object store fares.
type StorageReport struct {
	Health      string        `json:"health"`            // ok | degraded | unavailable
	Reasons     []string      `json:"reasons,omitempty"` // why it is not ok
	Buckets     int           `json:"buckets"`
	Objects     int64         `json:"objects"`
	Bytes       int64         `json:"bytes"`    // of the objects, before copies and compression
	Capacity    int64         `json:"capacity"` // bytes that the nodes may use
	Used        int64         `json:"used"`
	Chunks      int64         `json:"chunks"`             // that nodes keep, each copy counted
	Quarantined int64         `json:"quarantined"`        // damaged copies that were moved aside
	Held        int64         `json:"held,omitempty"`     // bytes that nobody refers to, and that are kept since they are so many
	HeldUntil   time.Time     `json:"heldUntil,omitzero"` // before when nothing is collected
	Nodes       []StorageNode `json:"nodes"`
	Upkeep      StorageUpkeep `json:"upkeep"`
}

// StorageNode is a node as a keeper of chunks.
type StorageNode struct {
	StoreMember
	Stats  StoreStats `json:"stats"`
	SeenAt time.Time  `json:"seenAt,omitzero"` // when it last told them
}

// ScrubRequest names the node that reads all its chunks; none: every node.
type ScrubRequest struct {
	Node string `json:"node,omitempty"`
}

// CollectRequest asks for a collection, with Anyway also of what is being held.
type CollectRequest struct {
	Anyway bool `json:"anyway,omitempty"`
}
