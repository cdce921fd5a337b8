// Package state is what the coordinators agree on: tables of immutable rows, and the one function
// that changes them. Apply(index, command) is pure: the same commands in the same order give the
// same rows, events and results on every coordinator. Ids and times are in the command, made before
// it entered the log.
//
// Reading goes through a View, a consistent snapshot. Rows handed out are shared: never change one,
// copy it first. A Mark per table tells the Raft index of its last change and gives a channel to
// wait on.
package state

import (
	"fmt"
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/cloudless/cloudless/api"
)

// Tables, which are also the names of marks.
const (
	tMeta      = "meta"
	tMembers   = "members"
	tNodes     = "nodes"
	tSets      = "sets"
	tWorkloads = "workloads"
	tVersions  = "versions"
	tReplicas  = "replicas"
	tTokens    = "tokens"
	tArtifacts = "artifacts"
	tEvents    = "events"
	tAnswers   = "answers"
	tRevoked   = "revoked"
	tRotations = "rotations"
	tPolicies  = "policies"
	tMarks     = "marks"
)

var tables = []string{
	tMeta, tMembers, tNodes, tSets, tWorkloads, tVersions, tReplicas, tTokens, tArtifacts, tEvents, tAnswers, tRevoked, tRotations, tPolicies, tMarks,
}

// MarkServices changes whenever the endpoint table may have changed.
const MarkServices = "services"

// Names of marks that callers wait on.
const (
	MarkNodes     = tNodes
	MarkWorkloads = tWorkloads
	MarkReplicas  = tReplicas
	MarkEvents    = tEvents
	MarkTokens    = tTokens
	MarkMembers   = tMembers
	MarkRevoked   = tRevoked
	MarkRotations = tRotations
	MarkPolicies  = tPolicies
)

// Meta is the cluster itself. A new Epoch begins with founding, restore and quorum recovery.
type Meta struct {
	ClusterID string    `json:"clusterId"`
	Epoch     uint64    `json:"epoch"`
	FoundedAt time.Time `json:"foundedAt"`
	RenewedAt time.Time `json:"renewedAt,omitzero"` // when this epoch followed another one
	SealKey   string    `json:"sealKey,omitempty"`  // id of the key that seals secrets; the coordinators hold it
}

// Workload is the row of a workload: its manifest without status, and what the reconciler notes.
type Workload struct {
	api.Workload
	// Template is the version that last changed anything but the number of replicas: replicas of an
	// older version are replaced.
	Template uint64        `json:"template"`
	Deleting bool          `json:"deleting,omitempty"`
	Unplaced int           `json:"unplaced,omitempty"` // replicas that found no node
	Message  string        `json:"message,omitempty"`  // why
	Refusal  *api.Decision `json:"refusal,omitempty"`  // of the last placement that failed
}

// Finished tells whether r is a run of this job that has ended. It is kept to tell the result, and
// counts as one of the replicas asked for, wherever its node is now: so there are never more of them
// than replicas asked for (at most api.MaxReplicas), and none is run again.
func (w *Workload) Finished(r *api.Replica) bool {
	ended := r.State == api.ReplicaComplete || r.State == api.ReplicaFailed
	return ended && w.Spec.IsJob() && r.UID == w.Metadata.UID && r.Desired == api.DesiredRun && !r.Orphan
}

// Version is one spec that a workload has had.
type Version struct {
	Ref     api.Ref          `json:"ref"`
	UID     string           `json:"uid"`
	Version uint64           `json:"version"`
	At      time.Time        `json:"at"`
	Spec    api.WorkloadSpec `json:"spec"`
}

// NodeSet is the generation of one node's assignments.
type NodeSet struct {
	NodeID     string `json:"nodeId"`
	Generation uint64 `json:"generation"`
}

// Answer is a remembered reply to a write that carried an Idempotency-Key.
type Answer struct {
	Key         string    `json:"key"`
	Fingerprint string    `json:"fingerprint"`
	Status      int       `json:"status"`
	Body        []byte    `json:"body"`
	Expires     time.Time `json:"expires"`
	Index       uint64    `json:"index"`
}

// Revoked is a member that was taken out for good: nobody talks to its certificate any more. The row
// is kept until that certificate has expired.
type Revoked struct {
	ID     string    `json:"id"`
	Role   api.Role  `json:"role"`
	Name   string    `json:"name"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
	Index  uint64    `json:"index"`
}

// Numbers kept among the marks, which are not marks.
const (
	eventsKept    = "events.count"
	eventsDropped = "events.dropped" // index up to which events were dropped
)

// Mark is the index of a table's last change.
type Mark struct {
	Name  string `json:"name"`
	Index uint64 `json:"index"`
}

// keyIndex makes a memdb index of a function from row to key.
type keyIndex func(row any) string

func (f keyIndex) FromObject(row any) (bool, []byte, error) {
	return true, []byte(f(row) + "\x00"), nil
}

func (f keyIndex) FromArgs(args ...any) ([]byte, error) {
	key, ok := args[0].(string)
	if len(args) != 1 || !ok {
		return nil, fmt.Errorf("index takes one string, got %v", args)
	}
	return []byte(key + "\x00"), nil
}

func table[T any](name string, id func(*T) string, more map[string]func(*T) string) *memdb.TableSchema {
	wrap := func(f func(*T) string) keyIndex { return func(row any) string { return f(row.(*T)) } }
	t := &memdb.TableSchema{Name: name, Indexes: map[string]*memdb.IndexSchema{
		"id": {Name: "id", Unique: true, Indexer: wrap(id)},
	}}
	for n, f := range more {
		t.Indexes[n] = &memdb.IndexSchema{Name: n, Indexer: wrap(f)}
	}
	return t
}

func versionKey(r api.Ref, uid string, v uint64) string { return fmt.Sprintf("%s|%s|%020d", r, uid, v) }

func schema() *memdb.DBSchema {
	s := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{}}
	for _, t := range []*memdb.TableSchema{
		table(tMeta, func(*Meta) string { return "meta" }, nil),
		table(tMembers, func(m *api.Member) string { return m.ID }, nil),
		table(tNodes, func(n *api.Node) string { return n.ID }, map[string]func(*api.Node) string{
			"name": func(n *api.Node) string { return n.Name }}),
		table(tSets, func(s *NodeSet) string { return s.NodeID }, nil),
		table(tWorkloads, func(w *Workload) string { return w.Ref().String() }, nil),
		table(tVersions, func(v *Version) string { return versionKey(v.Ref, v.UID, v.Version) }, map[string]func(*Version) string{
			"workload": func(v *Version) string { return v.Ref.String() }}),
		table(tReplicas, func(r *api.Replica) string { return r.ID }, map[string]func(*api.Replica) string{
			"workload": func(r *api.Replica) string { return r.Workload.String() },
			"node":     func(r *api.Replica) string { return r.NodeID }}),
		table(tTokens, func(t *api.Token) string { return t.ID }, nil),
		table(tArtifacts, func(a *api.Artifact) string { return a.Digest }, nil),
		table(tEvents, (*api.Event).LogKey, nil),
		table(tAnswers, func(a *Answer) string { return a.Key }, map[string]func(*Answer) string{
			"age": func(a *Answer) string { return fmt.Sprintf("%020d", a.Index) }}),
		table(tRevoked, func(r *Revoked) string { return r.ID }, map[string]func(*Revoked) string{
			"age": func(r *Revoked) string { return fmt.Sprintf("%020d.%s", r.Index, r.ID) }}),
		table(tRotations, func(r *api.Rotation) string { return string(r.Kind) }, nil),
		table(tPolicies, func(p *api.NamespacePolicy) string { return p.Namespace }, nil),
		table(tMarks, func(m *Mark) string { return m.Name }, nil),
	} {
		s.Tables[t.Name] = t
	}
	return s
}

// Store holds the tables. Apply and Restore are called by one goroutine, in log order; View by any.
type Store struct {
	db *memdb.MemDB
}

// New returns empty tables.
func New() *Store {
	db, err := memdb.NewMemDB(schema())
	if err != nil {
		panic(fmt.Sprintf("state: the schema is wrong: %v", err)) // a mistake in this file, found by every test
	}
	return &Store{db: db}
}

// View is the state at one index.
func (s *Store) View() View { return View{txn: s.db.Txn(false)} }
