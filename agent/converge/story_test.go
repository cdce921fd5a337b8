package converge

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

var rewrite = flag.Bool("rewrite", false, "write what the stories give into testdata")

// A story is a text of commands, each followed by a line "----", what it gives, and a blank line.
//
//	local epoch=1 generation=5 [since=0s]     the pair that the node has
//	have r-1 running                          a replica that the node has, in that state
//	set epoch=1 generation=6 reported=true r-1=run r-2=stop [prepare=w@2]   the set it is offered
//	nospec | nowasm                           that set lacks the specs, or their wasm part
//	at 10m                                    the time
//	step                                      asks; does the actions
//	ask                                       asks; does nothing
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(b))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(b), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// tell runs a story and gives it back with what it gives now.
func tell(t *testing.T, text string) string {
	s := &story{t: t, local: Local{Replicas: map[string]Replica{}, Prepared: map[string]bool{}}, start: time.Unix(1e9, 0)}
	s.now = s.start
	var out strings.Builder
	skip := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "----":
			skip = true
		case skip && line != "":
		case line == "", strings.HasPrefix(line, "#"):
			skip = false
			out.WriteString(line + "\n")
		default:
			out.WriteString(line + "\n")
			if answer := s.do(strings.Fields(line)); answer != "" {
				out.WriteString("----\n" + answer)
			}
		}
	}
	return out.String()
}

type story struct {
	t          *testing.T
	local      Local
	set        *api.AssignmentSet
	start, now time.Time
}

func (s *story) do(words []string) string {
	args := map[string]string{}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		args[k] = v
	}
	switch words[0] {
	case "local":
		s.local.Epoch, s.local.Generation = s.number(args["epoch"]), s.number(args["generation"])
		if since, ok := args["since"]; ok {
			s.local.EpochSince = s.start.Add(s.duration(since))
		}
	case "have":
		s.local.Replicas[words[1]] = Replica{Assignment: s.assignment(words[1], "run"), State: api.ReplicaState(words[2])}
	case "set":
		s.offer(words[1:], args)
	case "nospec":
		s.set.Specs = nil
	case "nowasm":
		s.set.Specs[0].Spec.Wasm = nil
	case "at":
		s.now = s.start.Add(s.duration(words[1]))
	case "ask", "step":
		return s.step(words[0] == "step")
	default:
		s.t.Fatalf("unknown command %q", words[0])
	}
	return ""
}

func (s *story) number(v string) uint64 {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *story) duration(v string) time.Duration {
	d, err := time.ParseDuration(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *story) assignment(id, desired string) api.Assignment {
	return api.Assignment{ReplicaID: id, UID: "w", Version: 1, Variant: api.VariantWasm, Desired: api.Desired(desired)}
}

func (s *story) offer(words []string, args map[string]string) {
	s.set = &api.AssignmentSet{Epoch: s.number(args["epoch"]), Generation: s.number(args["generation"]), Reported: args["reported"] == "true"}
	s.set.Specs = []api.AssignedSpec{{UID: "w", Version: 1, Spec: api.WorkloadSpec{Wasm: &api.WasmSpec{}}}}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "epoch", "generation", "reported":
		case "prepare":
			uid, version, _ := strings.Cut(v, "@")
			s.set.Prepare = append(s.set.Prepare, api.AssignedSpec{UID: uid, Version: s.number(version)})
		default:
			s.set.Assignments = append(s.set.Assignments, s.assignment(k, v))
		}
	}
}

// step asks, and with do takes the set up and does what was said.
func (s *story) step(do bool) string {
	actions, out := Step(s.local, Input{Set: s.set}, s.now)
	var b strings.Builder
	if !out.Accepted {
		fmt.Fprintf(&b, "refused: %s\n", out.Reason)
	}
	for _, a := range actions {
		id := a.ReplicaID
		if a.Kind == Prepare {
			id = api.VersionKey(a.Assignment.UID, a.Assignment.Version)
		}
		fmt.Fprintln(&b, strings.TrimSuffix(fmt.Sprintf("%s %s: %s", a.Kind, id, a.Reason), ": "))
	}
	if len(actions) == 0 && out.Accepted {
		b.WriteString("nothing to do\n")
	}
	if !out.NextCheck.IsZero() {
		fmt.Fprintf(&b, "again at %s\n", out.NextCheck.Sub(s.start))
	}
	if do && out.Accepted {
		s.local = perform(accept(s.local, s.set, s.now), actions)
		fmt.Fprintf(&b, "then: %s\n", strings.Join(s.have(), " "))
	}
	return b.String()
}

func (s *story) have() []string {
	if len(s.local.Replicas) == 0 {
		return []string{"nothing"}
	}
	var list []string
	for _, id := range slices.Sorted(maps.Keys(s.local.Replicas)) {
		list = append(list, id+"="+string(s.local.Replicas[id].State))
	}
	return list
}

// accept is what an agent does with the pair of a set that was accepted.
func accept(l Local, set *api.AssignmentSet, now time.Time) Local {
	if l.Epoch != 0 && l.Epoch != set.Epoch {
		l.EpochSince = now
	}
	l.Epoch, l.Generation = set.Epoch, set.Generation
	return l
}

// perform is what agent/supervise does with actions, once all has come to rest.
func perform(l Local, actions []Action) Local {
	l.Replicas, l.Prepared = maps.Clone(l.Replicas), maps.Clone(l.Prepared)
	for _, a := range actions {
		r := Replica{Assignment: a.Assignment}
		switch a.Kind {
		case Start:
			r.State = api.ReplicaRunning
		case Stop:
			r.State = api.ReplicaStopped
		case Refuse:
			r.State = api.ReplicaFailed
		case Forget:
			delete(l.Replicas, a.ReplicaID)
			continue
		case Prepare:
			l.Prepared[api.VersionKey(a.Assignment.UID, a.Assignment.Version)] = true
			continue
		}
		l.Replicas[a.ReplicaID] = r
	}
	return l
}
