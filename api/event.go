package api

import (
	"fmt"
	"time"
)

// Severity of an event.
type Severity string

// The severities.
const (
	SeverityInfo    Severity = "info"
	SeverityWarning Severity = "warning"
	SeverityError   Severity = "error"
)

// Event says that something happened. Events of state changes have the Raft index as their ID, the
// same on every coordinator; a node's own have its name and a counter.
type Event struct {
	ID            string            `json:"id"`
	Index         uint64            `json:"index,omitempty"` // Raft index; 0 for a node's own
	Time          time.Time         `json:"time"`
	Type          string            `json:"type"` // "noun.verb", such as replica.failed
	Severity      Severity          `json:"severity"`
	Resource      string            `json:"resource"` // "workload/default/hello", "node/NAME", "replica/ID", "token/ID", "cluster"
	Message       string            `json:"message"`
	Node          string            `json:"node,omitempty"`
	RequestID     string            `json:"requestId,omitempty"`
	CorrelationID string            `json:"correlationId,omitempty"`
	Fields        map[string]string `json:"fields,omitempty"`
}

// Types of events. "security." ones are also written to the audit log.
const (
	EventWorkloadCreated   = "workload.created"
	EventWorkloadUpdated   = "workload.updated"
	EventWorkloadScaled    = "workload.scaled"
	EventWorkloadRestarted = "workload.restarted"
	EventWorkloadDeleted   = "workload.deleted"
	EventWorkloadUnplaced  = "workload.unplaced"
	EventWorkloadRemoved   = "workload.removed"
	EventReplicaPlaced     = "replica.placed"
	EventReplicaReady      = "replica.ready"
	EventReplicaUnready    = "replica.unready"
	EventReplicaRestarted  = "replica.restarted"
	EventReplicaFailed     = "replica.failed"
	EventReplicaStopped    = "replica.stopped"
	EventReplicaOrphaned   = "replica.orphaned"
	EventReplicaAdopted    = "replica.adopted"
	EventNodeJoined        = "node.joined"
	EventNodeReady         = "node.ready"
	EventNodeSuspect       = "node.suspect"
	EventNodeLost          = "node.lost"
	EventNodeLeft          = "node.left"
	EventNodeCordoned      = "node.cordoned"
	EventNodeUncordoned    = "node.uncordoned"
	EventNodeDraining      = "node.draining"
	EventNodeRemoved       = "node.removed"
	EventPortRefused       = "node.port.refused" // a published port could not be opened
	EventDiskFull          = "node.disk.full"    // nothing new is placed there
	EventDiskRoom          = "node.disk.room"    // it is no longer full
	EventBucketCreated     = "storage.bucket_created"
	EventBucketDeleted     = "storage.bucket_deleted"
	EventStorageRestored   = "storage.restored" // all metadata was replaced by a backup
	EventChunkDamaged      = "storage.chunk_damaged"
	EventStoreFull         = "storage.full"            // a node's store takes no chunks
	EventStoreRoom         = "storage.room"            // it takes them again
	EventCollectionHeld    = "storage.collection_held" // unreferenced chunks are kept until somebody has looked, or a day is over
	EventStoreShort        = "storage.short"           // chunks have fewer copies than they are to have
	EventStoreRepaired     = "storage.repaired"        // all have them again
	EventStoreDrained      = "storage.drained"         // nothing needs a node's chunks any more
	EventChunkLost         = "storage.chunk_lost"      // no node has a copy, unless one comes back
	EventNodeRevoked       = "security.node.revoked"
	EventRotation          = "security.rotation"
	EventNodeTrouble       = "node.trouble" // something on a node needs a person's look
	EventMemberJoined      = "member.joined"
	EventMemberLeft        = "member.left"
	EventLeaderElected     = "leader.elected"
	EventClusterFounded    = "cluster.founded"
	EventClusterIsolated   = "cluster.isolated" // the leader suspects its own network
	EventTokenCreated      = "security.token.created"
	EventTokenRevoked      = "security.token.revoked"
	EventTokenRefused      = "security.token.refused"
	EventStrangerGossip    = "security.gossip.stranger"
	EventNameClaimed       = "security.gossip.claim"
	EventPolicySet         = "security.policy.set"
	EventPolicyDeleted     = "security.policy.deleted"
	EventVolumeSkipped     = "volume.skipped"  // a key of a mounted bucket cannot be a file's name
	EventVolumeConflict    = "volume.conflict" // a file was changed on two sides; both are kept
	EventVolumeBehind      = "volume.behind"   // a volume cannot be brought into step with its bucket
	EventVolumeInStep      = "volume.in_step"  // it can again
	EventArtifactStored    = "artifact.stored"
	EventGap               = "events.gap" // events were dropped; fields say how many
)

// EventQuery filters events; zero fields match all.
type EventQuery struct {
	Type     string    // exact, or a prefix that ends in "."
	Severity Severity  // at least this severe
	Resource string    // exact, or a prefix that ends in "/"
	Since    time.Time // inclusive
	Until    time.Time // exclusive
	After    uint64    // Raft index, exclusive
	Before   string    // the place of an event, exclusive: a list's cursor
	Limit    int
}

// Place is where an event stands in lists, which go by time, and within a moment by LogKey. Places sort as
// text.
func (e *Event) Place() string {
	return fmt.Sprintf("%020d-%s", uint64(max(e.Time.UnixNano(), 0)), e.LogKey())
}

// LogKey sorts events, as text, by their index and then as they were recorded: their ids count up, so a
// longer one is a later one ("7", "7.9", "7.10").
func (e *Event) LogKey() string { return fmt.Sprintf("%020d-%03d-%s", e.Index, len(e.ID), e.ID) }

var severityRank = map[Severity]int{SeverityInfo: 0, SeverityWarning: 1, SeverityError: 2}

// Match tells whether e passes the filter.
func (q EventQuery) Match(e *Event) bool {
	return matches(q.Type, e.Type, '.') && matches(q.Resource, e.Resource, '/') &&
		(q.Severity == "" || severityRank[e.Severity] >= severityRank[q.Severity]) &&
		(q.Since.IsZero() || !e.Time.Before(q.Since)) && (q.Until.IsZero() || e.Time.Before(q.Until)) &&
		(q.After == 0 || e.Index == 0 || e.Index > q.After) && (q.Before == "" || e.Place() < q.Before)
}

// matches compares exactly, or by prefix when want ends in sep; "replica" matches "replica.ready" too.
func matches(want, have string, sep byte) bool {
	if want == "" || want == have {
		return true
	}
	if want[len(want)-1] != sep {
		want += string(sep)
	}
	return len(have) >= len(want) && have[:len(want)] == want
}
