package coordinator

import (
	"context"
	"encoding/json"
	"maps"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/schedule"
	"github.com/cloudless/cloudless/coordinator/state"
)

// planExplained bounds the placements of a plan that come with their reasons; all come with their nodes.
const planExplained = 100

// PlanWorkload tells what applying would do, by the real scheduler on the current state, and changes nothing.
func (s *Server) PlanWorkload(ctx context.Context, w api.Workload) (api.Plan, error) {
	if err := checkWorkload(&w); err != nil {
		return api.Plan{}, err
	}
	v := s.store.View()
	if err := s.admitWorkload(ctx, v, &w); err != nil {
		return api.Plan{}, err
	}
	c := s.placing(v)
	plan := api.Plan{Outcome: "create", Notes: policyNotes(v, w.Metadata.Namespace), Explanation: api.Explanation{Workload: w.Ref(), Index: v.Index(), Nodes: c.Explain(&w), Replicas: []api.ReplicaDecision{}}}
	row, exists := v.Workload(w.Ref())
	if exists {
		plan.Outcome = "update"
		plan.Changes = diff(&row.Workload, &w)
		plan.Beyond = api.Beyond(&row.Spec, &w.Spec)
	} else {
		plan.Changes = diff(nil, &w)
		plan.Beyond = api.Beyond(nil, &w.Spec)
	}
	if exists && len(plan.Changes) == 0 {
		plan.Outcome = "unchanged"
		return plan, nil
	}
	placeNew(v, c, &w, w.Spec.Count()-staying(v, c, row, &w.Spec), &plan.Explanation)
	return plan, nil
}

// staying counts the replicas that the new spec would leave alone, and frees what the others take, as it
// will be when they have been replaced.
func staying(v state.View, c *schedule.Cluster, row *state.Workload, spec *api.WorkloadSpec) (n int) {
	if row == nil {
		return 0
	}
	replaced := state.Replaces(row.Spec, *spec)
	for _, r := range v.ReplicasOf(row.Ref()) {
		switch {
		case r.Desired != api.DesiredRun || r.Orphan || r.State.Terminal():
		case replaced || r.Version < row.Template:
			c.Remove(r)
		default:
			n++
		}
	}
	return n
}

// placeNew puts n replicas where they would go, each seeing those before it.
func placeNew(v state.View, c *schedule.Cluster, w *api.Workload, n int, x *api.Explanation) {
	for placed := range max(n, 0) {
		p, ok := c.Place(w)
		if !ok {
			x.Unplaced, x.Message = n-placed, schedule.Message(p.Decision)
			return
		}
		c.Reserve(p.NodeID, w, p.Variant)
		d := api.ReplicaDecision{Node: nodeName(v, p.NodeID)}
		if placed < planExplained {
			d.Decision = p.Decision
		}
		x.Replicas = append(x.Replicas, d)
	}
}

// diff lists the fields in which two workloads differ, in the order of their paths. What has no field
// in old is new.
func diff(old, now *api.Workload) []api.PlanChange {
	a, b := flatten(old), flatten(now)
	all := maps.Clone(a)
	maps.Copy(all, b)
	var out []api.PlanChange
	for _, k := range sortedKeys(all) {
		if a[k] != b[k] {
			out = append(out, api.PlanChange{Field: k, Old: a[k], New: b[k]})
		}
	}
	return out
}

// flatten maps the path of every leaf of what a manifest says to its JSON.
func flatten(w *api.Workload) map[string]string {
	out := map[string]string{}
	if w == nil {
		return out
	}
	walk("metadata.labels", tree(w.Metadata.Labels), out)
	walk("spec", tree(w.Spec), out)
	return out
}

// tree is v as JSON has it.
func tree(v any) (out any) {
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		return nil // what has come by JSON goes back to it
	}
	return out
}

func walk(path string, v any, out map[string]string) {
	if m, ok := v.(map[string]any); ok && len(m) > 0 {
		for k, child := range m {
			walk(path+"."+k, child, out)
		}
		return
	}
	if data, err := json.Marshal(v); err == nil && string(data) != "null" {
		out[path] = string(data)
	}
}
