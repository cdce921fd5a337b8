package reconcile

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/state"
)

var rewrite = flag.Bool("rewrite", false, "write the stories under testdata anew")

// TestStories runs testdata/*.txt. A story is paragraphs: what happens, a line "----", and what Plan
// did about it.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runStory(t, string(text))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(text), got); diff != "" {
				t.Errorf("the story goes otherwise (-want +got); -rewrite if that is right:\n%s", diff)
			}
		})
	}
}

func runStory(t *testing.T, text string) string {
	w := newWorld(t)
	var out []string
	for _, par := range strings.Split(strings.TrimSpace(text), "\n\n") {
		lines, _, _ := strings.Cut(par, "\n----")
		w.trace.Reset()
		for _, line := range strings.Split(lines, "\n") {
			if line != "" && !strings.HasPrefix(line, "#") {
				happen(t, w, strings.Fields(line))
			}
		}
		par = lines
		if w.trace.Len() > 0 {
			par += "\n----\n" + strings.TrimSuffix(w.trace.String(), "\n")
		}
		out = append(out, par)
	}
	return strings.Join(out, "\n\n") + "\n"
}

// happen does what one line of a story says.
func happen(t *testing.T, w *world, words []string) {
	t.Helper()
	arg := func(key, otherwise string) string {
		for _, word := range words[1:] {
			if v, ok := strings.CutPrefix(word, key+"="); ok {
				return v
			}
		}
		return otherwise
	}
	number := func(key string, otherwise int) int {
		n, err := strconv.Atoi(arg(key, strconv.Itoa(otherwise)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	switch words[0] {
	case "node":
		w.addNode(api.Node{ID: words[1], Region: "eu", Zone: arg("zone", "z"), Capacity: api.Reserved{CPU: api.MilliCPU(number("cpu", 1000)), Memory: 1 << 30}})
	case "put":
		w.put(words[1], number("replicas", 1), func(s *api.WorkloadSpec) {
			s.Resources.CPU, s.Priority = api.MilliCPU(number("cpu", 100)), number("priority", 0)
			if arg("job", "") == "true" {
				s.Wasm.Mode, s.Restart.Policy = api.ModeJob, api.RestartOnFailure
			}
			if by := arg("spread", ""); by != "" {
				s.Placement.Spread = &api.Spread{By: by}
			}
		})
	case "restart":
		w.must(state.Command{RestartWorkload: &state.ByRef{Ref: ref(words[1])}})
	case "scale":
		w.must(state.Command{ScaleWorkload: &state.ScaleWorkload{Ref: ref(words[1]), Replicas: number("replicas", 1)}})
	case "delete":
		w.must(state.Command{DeleteWorkload: &state.ByRef{Ref: ref(words[1])}})
	case "drain":
		w.must(state.Command{Drain: &state.DrainNode{ID: words[1], Drain: &api.Drain{Graceful: arg("graceful", "true") == "true"}}})
	case "cold":
		w.cold[words[1]] = true
	case "warm":
		delete(w.cold, words[1])
	case "break":
		wl, _ := w.store.View().Workload(ref(words[1]))
		w.broken[words[1]] = wl.Metadata.Version
	case "mend":
		delete(w.broken, words[1])
	case "finish":
		w.finish(words[1], api.ReplicaComplete)
	case "fail":
		w.finish(words[1], api.ReplicaFailed)
	case "remove":
		w.remove(words[1])
	case "kill":
		w.kill(words[1])
	case "revive":
		w.revive(words[1])
	case "wait":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(d)
	case "plan":
		w.plan()
	case "obey":
		w.agents()
	case "settle":
		w.settle()
	case "show":
		show(w, words[1])
	default:
		t.Fatalf("a story cannot say %q", words[0])
	}
}

// show tells what rows there are of a workload.
func show(w *world, name string) {
	for _, r := range w.store.View().ReplicasOf(ref(name)) {
		fmt.Fprintf(w.trace, "%s v%d on %s: %s, is %s, ready=%t orphan=%t\n", r.ID, r.Version, r.NodeID, r.Desired, r.State, r.Ready, r.Orphan)
	}
}
