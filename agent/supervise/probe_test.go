package supervise

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/fake"
)

func httpProbe() *api.Probe {
	return &api.Probe{HTTP: &api.HTTPProbe{Path: "/healthz"}, Interval: api.Duration(time.Second), Timeout: api.Duration(time.Second), Failures: 3}
}

// answers is a wasm guest that answers with a status that the test sets; -1 hangs, -2 breaks off an answer.
func answers(status *atomic.Int32) *fake.Driver {
	return wasmDriver(fake.Script{Handler: func(sandbox.Spec) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch status.Load() {
			case -1:
				<-r.Context().Done()
				return
			case -2:
				w.WriteHeader(http.StatusOK)
				panic(http.ErrAbortHandler)
			}
			if r.URL.Path == "/healthz" {
				w.WriteHeader(int(status.Load()))
			}
		})
	}})
}

func TestReadinessProbe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var status atomic.Int32
		status.Store(503)
		n := newNode(t, answers(&status))
		n.run("r-1", api.VariantWasm, wasm(func(s *api.WorkloadSpec) { s.Probes.Readiness = httpProbe() }))
		after(5 * time.Second)
		same(t, "states", []string{"starting", "running"}, n.states("r-1"))
		same(t, "serving", 0, len(n.Serving("default", "hello")))
		same(t, "reason", "readiness probe: GET /healthz answered 503", n.last("r-1").Reason)
		status.Store(204)
		after(time.Second)
		same(t, "ready", true, n.last("r-1").Ready)
		same(t, "reason", "", n.last("r-1").Reason)
		status.Store(500)
		after(1500 * time.Millisecond)
		same(t, "ready after fewer failures than it takes", true, n.last("r-1").Ready)
		after(2 * time.Second)
		same(t, "ready after three failures", false, n.last("r-1").Ready)
		same(t, "serving", 0, len(n.Serving("default", "hello")))
		status.Store(200)
		after(time.Second)
		same(t, "ready after one success", true, n.last("r-1").Ready)
		same(t, "restarts", 0, n.last("r-1").Restarts)
		n.close(StopKill)
	})
}

// A guest that fails in the middle of an answer, as a trap does to it, has failed the probe. It is asked again.
func TestAnAnswerThatBreaksOffIsAFailedProbe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var status atomic.Int32
		status.Store(-2)
		n := newNode(t, answers(&status))
		n.run("r-1", api.VariantWasm, wasm(func(s *api.WorkloadSpec) { s.Probes.Readiness, s.Probes.Liveness = httpProbe(), httpProbe() }))
		after(1500 * time.Millisecond)
		same(t, "ready", false, n.last("r-1").Ready)
		status.Store(200)
		after(time.Second)
		same(t, "ready once it answers", true, n.last("r-1").Ready)
		status.Store(-2)
		after(10 * time.Second)
		if n.last("r-1").Restarts == 0 {
			t.Error("its liveness probe fails, and it is not restarted")
		}
		n.close(StopKill)
	})
}

// What is ready soon is seen soon, whatever the interval.
func TestFirstReadinessIsQuick(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var status atomic.Int32
		status.Store(503)
		n := newNode(t, answers(&status))
		p := httpProbe()
		p.Interval = api.Duration(time.Minute)
		n.run("r-1", api.VariantWasm, wasm(func(s *api.WorkloadSpec) { s.Probes.Readiness = p }))
		after(100 * time.Millisecond)
		status.Store(200)
		after(100 * time.Millisecond)
		same(t, "ready", true, n.last("r-1").Ready)
		n.close(StopKill)
	})
}

func TestInitialDelay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var status atomic.Int32
		status.Store(200)
		n := newNode(t, answers(&status))
		p := httpProbe()
		p.InitialDelay = api.Duration(5 * time.Second)
		n.run("r-1", api.VariantWasm, wasm(func(s *api.WorkloadSpec) { s.Probes.Readiness = p }))
		after(4 * time.Second)
		same(t, "ready within the delay", false, n.last("r-1").Ready)
		after(2 * time.Second)
		same(t, "ready after it", true, n.last("r-1").Ready)
		n.close(StopKill)
	})
}

// A replica that hangs is restarted, the restart counted with its reason.
func TestLivenessProbe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var status atomic.Int32
		status.Store(200)
		d := answers(&status)
		n := newNode(t, d)
		p := httpProbe()
		p.Interval = api.Duration(5 * time.Second)
		n.run("r-1", api.VariantWasm, wasm(func(s *api.WorkloadSpec) { s.Probes.Liveness = p }))
		after(time.Minute)
		same(t, "starts", 1, d.Starts("r-1"))
		status.Store(-1)
		after(20 * time.Second)
		status.Store(200)
		after(5 * time.Second)
		same(t, "starts", 2, d.Starts("r-1"))
		same(t, "restarts", 1, n.last("r-1").Restarts)
		same(t, "ready", true, n.last("r-1").Ready)
		told := false
		for _, rep := range n.told["r-1"] {
			told = told || rep.State == api.ReplicaBackoff && strings.HasPrefix(rep.Reason, "liveness probe: no answer within 1s")
		}
		same(t, "reason told", true, told)
		n.close(StopKill)
	})
}

// Policy never lets a replica that is not alive rest, as failed.
func TestLivenessWithPolicyNever(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var status atomic.Int32
		status.Store(500)
		n := newNode(t, answers(&status))
		n.run("r-1", api.VariantWasm, wasm(func(s *api.WorkloadSpec) {
			s.Probes.Liveness, s.Restart.Policy = httpProbe(), api.RestartNever
		}))
		after(time.Minute)
		same(t, "state", api.ReplicaFailed, n.last("r-1").State)
		n.close(StopKill)
	})
}

func TestExecProbe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var code atomic.Int32
		code.Store(1)
		d := fake.New(fake.Script{Exec: func(context.Context, sandbox.Spec, sandbox.ExecRequest) (int, error) { return int(code.Load()), nil }})
		n := newNode(t, d)
		n.run("r-1", api.VariantContainer, container(func(s *api.WorkloadSpec) {
			s.Probes.Readiness = &api.Probe{Exec: &api.ExecProbe{Command: []string{"check"}}}
		}))
		after(3 * time.Second)
		same(t, "ready", false, n.last("r-1").Ready)
		same(t, "reason", "readiness probe: check exited with code 1", n.last("r-1").Reason)
		code.Store(0)
		after(2 * time.Second)
		same(t, "ready", true, n.last("r-1").Ready)
		n.close(StopKill)
	})
}

// listen is a server on the host that the container is said to have.
func listen(t *testing.T) (net.Listener, int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}

// eventually waits in real time for what a real socket does.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// A container with an http port and no probe is ready once the port takes a connection.
func TestPortMakesAContainerReady(t *testing.T) {
	l, port := listen(t)
	l.Close()
	n := newNode(t, fake.New(fake.Script{Host: "127.0.0.1"}))
	n.run("r-1", api.VariantContainer, container(func(s *api.WorkloadSpec) { s.Ports = []api.Port{{Port: port}} }))
	eventually(t, "running", func() bool { return len(n.states("r-1")) == 2 })
	same(t, "ready before the port is open", false, n.last("r-1").Ready)
	if _, _, ok := n.Endpoint("r-1"); ok {
		t.Error("a replica that is not ready has an endpoint")
	}
	again, err := net.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	eventually(t, "ready", func() bool { return n.last("r-1").Ready })
	n.close(StopKill)
}

func TestNetworkProbesOfAContainer(t *testing.T) {
	l, port := listen(t)
	srv := &http.Server{Handler: http.RedirectHandler("/elsewhere", http.StatusFound)}
	go srv.Serve(l)
	defer srv.Close()
	for name, p := range map[string]*api.Probe{
		"http": {HTTP: &api.HTTPProbe{Path: "/"}},
		"tcp":  {TCP: &api.TCPProbe{Port: port}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, fake.New(fake.Script{Host: "127.0.0.1"}))
			n.run("r-1", api.VariantContainer, container(func(s *api.WorkloadSpec) {
				s.Ports, s.Probes.Readiness = []api.Port{{Port: port}}, p
			}))
			eventually(t, "ready", func() bool { return len(n.states("r-1")) > 1 && n.last("r-1").Ready })
			n.close(StopKill)
		})
	}
}

// A probe that a wasm replica cannot answer says so.
func TestProbeThatCannotBe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, wasmDriver(fake.Script{}))
		n.run("r-1", api.VariantWasm, wasm(func(s *api.WorkloadSpec) {
			s.Probes.Readiness = &api.Probe{TCP: &api.TCPProbe{Port: 80}, Failures: 1}
		}))
		synctest.Wait()
		same(t, "reason", "readiness probe: the replica has no network address", n.last("r-1").Reason)
		n.close(StopKill)
	})
}
