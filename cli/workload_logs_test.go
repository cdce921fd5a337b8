package cli

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

// A log that breaks off goes on behind what was printed: by the time, or without times with what comes from now on.
func TestWhereALogThatBrokeOffGoesOn(t *testing.T) {
	now, asked := time.Unix(100, 0), api.LogOptions{Follow: true, Tail: 20, Since: time.Unix(1, 0)}
	if d := cmp.Diff(api.LogOptions{Follow: true, Tail: -1, Since: now}, resumed(asked, now, true)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(api.LogOptions{Follow: true, Tail: 0, Since: time.Unix(1, 0)}, resumed(asked, now, false)); d != "" {
		t.Error(d)
	}
}

func TestAFollowedLogThatBreaksOffIsOpenedAgain(t *testing.T) {
	for _, args := range [][]string{{"logs", "web", "-f"}, {"logs", "web", "-f", "--all-instances"}} {
		s, tails := newSession(t), []string{}
		s.api.workloads["default/web"] = api.Workload{
			Spec:   api.WorkloadSpec{Container: &api.ContainerSpec{}},
			Status: &api.WorkloadStatus{Replicas: []api.ReplicaStatus{{ID: "web-1", Variant: api.VariantContainer}}},
		}
		s.api.logs = func(w http.ResponseWriter, r *http.Request) {
			tails = append(tails, r.URL.Query().Get("tail"))
			fmt.Fprintln(w, "line", len(tails))
			if len(tails) == 1 {
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			delete(s.api.workloads, "default/web") // which ends the following
		}
		if code := s.run(args...); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, s.err.String())
		}
		want := "line 1\nline 2\n"
		if len(args) > 3 {
			want = "web-1 line 1\nweb-1 line 2\n"
		}
		if d := cmp.Diff(want, s.out.String()); d != "" {
			t.Errorf("%v: %s", args, d)
		}
		if d := cmp.Diff([]string{"-1", "0"}, tails); d != "" {
			t.Errorf("%v: %s", args, d)
		}
	}
}

func TestALogThatBreaksOffIsAnError(t *testing.T) {
	s := newSession(t)
	s.api.logs = func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "line")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	s.want(7, "line\n", "the log broke off", "logs", "web")
}
