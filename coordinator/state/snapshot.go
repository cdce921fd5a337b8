package state

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/cloudless/cloudless/api"
)

// dump is the shape of a snapshot: every table, rows in key order.
type dump struct {
	Format    int                    `json:"format"`
	Meta      []*Meta                `json:"meta"`
	Members   []*api.Member          `json:"members"`
	Nodes     []*api.Node            `json:"nodes"`
	Sets      []*NodeSet             `json:"sets"`
	Workloads []*Workload            `json:"workloads"`
	Versions  []*Version             `json:"versions"`
	Replicas  []*api.Replica         `json:"replicas"`
	Tokens    []*api.Token           `json:"tokens"`
	Artifacts []*api.Artifact        `json:"artifacts"`
	Events    []*api.Event           `json:"events"`
	Answers   []*Answer              `json:"answers"`
	Revoked   []*Revoked             `json:"revoked,omitempty"`
	Rotations []*api.Rotation        `json:"rotations,omitempty"`
	Policies  []*api.NamespacePolicy `json:"policies,omitempty"`
	Marks     []*Mark                `json:"marks"`
}

const snapshotFormat = 1

// Write writes the view as a snapshot.
func (v View) Write(w io.Writer) error {
	d := dump{
		Format: snapshotFormat,
		Meta:   all[Meta](v, tMeta, "id"), Members: v.Members(), Nodes: v.Nodes(), Sets: all[NodeSet](v, tSets, "id"),
		Workloads: v.Workloads(), Versions: all[Version](v, tVersions, "id"), Replicas: v.Replicas(), Tokens: v.Tokens(),
		Artifacts: v.Artifacts(), Events: all[api.Event](v, tEvents, "id"), Answers: all[Answer](v, tAnswers, "id"), Revoked: v.Revocations(), Rotations: v.Rotations(), Policies: v.Policies(), Marks: all[Mark](v, tMarks, "id"),
	}
	if err := json.NewEncoder(w).Encode(d); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// Restore replaces all tables by a snapshot. On an error they stay as they were. Whoever waits on a
// channel of an earlier View is woken.
func (s *Store) Restore(r io.Reader) error {
	var d dump
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	if d.Format != snapshotFormat {
		return fmt.Errorf("read snapshot: format %d is not %d: upgrade this coordinator", d.Format, snapshotFormat)
	}
	txn := s.db.Txn(true)
	defer txn.Abort()
	for _, name := range tables {
		if _, err := txn.DeleteAll(name, "id"); err != nil {
			return fmt.Errorf("restore snapshot: clear %s: %w", name, err)
		}
	}
	insert := func(table string, row any) error {
		if err := txn.Insert(table, row); err != nil {
			return fmt.Errorf("restore snapshot: %s: %w", table, err)
		}
		return nil
	}
	for _, load := range []func() error{
		loadTable(insert, tMeta, d.Meta), loadTable(insert, tMembers, d.Members), loadTable(insert, tNodes, d.Nodes),
		loadTable(insert, tSets, d.Sets), loadTable(insert, tWorkloads, d.Workloads), loadTable(insert, tVersions, d.Versions),
		loadTable(insert, tReplicas, d.Replicas), loadTable(insert, tTokens, d.Tokens), loadTable(insert, tArtifacts, d.Artifacts),
		loadTable(insert, tEvents, d.Events), loadTable(insert, tAnswers, d.Answers), loadTable(insert, tRevoked, d.Revoked), loadTable(insert, tRotations, d.Rotations),
		loadTable(insert, tPolicies, d.Policies), loadTable(insert, tMarks, d.Marks),
	} {
		if err := load(); err != nil {
			return err
		}
	}
	txn.Commit()
	return nil
}

func loadTable[T any](insert func(string, any) error, table string, rows []*T) func() error {
	return func() error {
		for _, row := range rows {
			if err := insert(table, row); err != nil {
				return err
			}
		}
		return nil
	}
}
