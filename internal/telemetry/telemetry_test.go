package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

func newTest(t *testing.T, cfg Config) *Telemetry {
	t.Helper()
	if cfg.LogWriter == nil {
		cfg.LogWriter = io.Discard
	}
	tel, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tel
}

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// exercise gives every labelled metric one series, so that all of them are exposed.
func exercise(m *Metrics) {
	m.SchedulingDecisions.Inc("placed")
	m.ReschedulingOperations.Inc("lost")
	m.NodesByState.Set(1, "ready")
	m.NodeReliability.Set(1, "n1")
	m.NodeCapacity.Set(1, "n1", "cpu")
	m.NodeUsage.Set(1, "n1", "cpu")
	m.NodeFragmentUtilization.Set(1, "n1")
	m.NodeEnrollments.Inc("ok")
	m.WorkloadsByPhase.Set(1, "running")
	m.WorkloadReplicasDesired.Set(1, "default", "hello")
	m.WorkloadReplicasReady.Set(1, "default", "hello")
	m.WorkloadReplicaRestarts.Inc("default", "hello")
	m.WorkloadHealthCheckFailures.Inc("default", "hello", "readiness")
	m.ContainerOperations.Inc("start", "ok")
	m.ContainerOperationDuration.Observe(1, "start")
	m.RunningContainers.Set(1, "wasm")
	m.Objects.Set(1, "assets")
	m.StorageOperations.Inc("put", "ok")
	m.StorageOperationDuration.Observe(1, "put")
	m.NetworkConnections.Inc("ingress")
	m.NetworkBytes.Add(1, "in")
	m.NetworkLatency.Observe(1, "ingress")
	m.NATTraversalAttempts.Inc("direct")
}

func TestMetricsHaveTheContractsNamesAndTypes(t *testing.T) {
	want := map[string]dto.MetricType{}
	for kind, names := range map[dto.MetricType]string{
		dto.MetricType_COUNTER: `scheduling_decisions_total rescheduling_operations_total node_enrollments_total
			workload_scale_operations_total container_operations_total network_connections_total
			coordinator_leader_elections_total raft_log_entries_total workload_replica_restarts_total
			workload_health_check_failures_total network_bytes_transferred_total nat_traversal_attempts_total
			storage_operations_total repair_operations_total`,
		dto.MetricType_UNTYPED: `workload_replica_restarts workload_health_check_failures running_containers_total
			network_bytes_transferred nat_traversal_attempts storage_chunks_total objects_total`,
		dto.MetricType_GAUGE: `scheduling_queue_depth nodes_by_state node_reliability_score node_resource_capacity
			node_resource_usage node_fragment_utilization workloads_by_phase workload_replicas_desired
			workload_replicas_ready coordinator_is_leader raft_applied_index system_info uptime_seconds
			storage_used_bytes storage_capacity_bytes replication_lag_seconds`,
		dto.MetricType_HISTOGRAM: `scheduling_duration_seconds placement_score_distribution
			node_heartbeat_latency_seconds workload_creation_duration_seconds
			container_operation_duration_seconds network_latency_seconds storage_operation_duration_seconds`,
	} {
		for name := range strings.FieldsSeq(names) {
			want["cloudless_"+name] = kind
		}
	}
	tel := newTest(t, Config{Role: "agent", Version: "v1"})
	exercise(tel.Metrics)
	families, err := tel.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]dto.MetricType{}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "cloudless_") {
			got[f.GetName()] = f.GetType()
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// What a label can be is known for most metrics: they are there before the first count.
func TestCountsOfKnownKindsStartAtZero(t *testing.T) {
	body := get(t, newTest(t, Config{Role: "agent"}).ServeMux(), "/metrics").Body.String()
	for _, want := range []string{
		`scheduling_decisions_total{result="no_room"} 0`, `rescheduling_operations_total{reason="node_lost"} 0`, `node_enrollments_total{result="refused"} 0`,
		`container_operations_total{operation="exec",result="error"} 0`, `container_operation_duration_seconds_count{operation="stop"} 0`, `repair_operations_total{operation="drop",result="ok"} 0`,
		`network_connections_total{kind="tcp"} 0`, `network_bytes_transferred_total{direction="out"} 0`, `network_latency_seconds_count{kind="node"} 0`, `nat_traversal_attempts{result="relayed"} 0`,
	} {
		if !strings.Contains(body, "\ncloudless_"+want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
}

func TestRolesOfOneProcessAreServedTogether(t *testing.T) {
	first, second := newTest(t, Config{Role: "coordinator", Node: "dev"}), newTest(t, Config{Role: "agent", Node: "dev-1"})
	first.Include(second)
	w := get(t, first.ServeMux(), "/metrics")
	for _, want := range []string{`role="coordinator"`, `role="agent"`, `cloudless_uptime_seconds{node="dev"}`, `cloudless_uptime_seconds{node="dev-1"}`, `go_goroutines{node="dev-1"}`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("there is no %s", want)
		}
	}
	if problems, err := promlint.New(w.Body).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if strings.Contains(get(t, second.ServeMux(), "/metrics").Body.String(), `node="dev"`) {
		t.Error("the other one tells of the first")
	}
}

func TestExpositionPassesPromlint(t *testing.T) {
	tel := newTest(t, Config{Role: "coordinator", Node: "c1", Version: "v1"})
	exercise(tel.Metrics)
	w := get(t, tel.ServeMux(), "/metrics")
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	body := w.Body.String()
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, `node="c1"`) {
			t.Errorf("without the node label: %s", line)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(body, name) {
			t.Errorf("no %s", name)
		}
	}
}

func TestRolesOfOneProcessKeepTheirOwnRegistry(t *testing.T) {
	a, b := newTest(t, Config{Role: "agent", Node: "a"}), newTest(t, Config{Role: "agent", Node: "b"})
	a.Metrics.NetworkBytes.Add(7, "in")
	if body := get(t, a.Handler(), "/").Body.String(); !strings.Contains(body, `cloudless_network_bytes_transferred_total{direction="in",node="a"} 7`) {
		t.Errorf("a's bytes are missing:\n%s", body)
	}
	if body := get(t, b.Handler(), "/").Body.String(); !strings.Contains(body, `cloudless_network_bytes_transferred_total{direction="in",node="b"} 0`) {
		t.Error("b shows a's bytes")
	}
}

func TestGaugeReplaceForgetsWhatIsGone(t *testing.T) {
	tel := newTest(t, Config{})
	g := tel.Metrics.NodesByState
	g.Set(3, "lost")
	g.Replace([]Sample{{[]string{"ready"}, 2}, {[]string{"suspect"}, 1}})
	g.Add(1, "suspect")
	g.Set(9, "left")
	g.Delete("left")
	got := map[string]float64{}
	for _, s := range g.f.snapshot() {
		got[s.labels[0]] = s.value
	}
	if d := cmp.Diff(map[string]float64{"ready": 2, "suspect": 2}, got); d != "" {
		t.Error(d)
	}
}

func TestCountersOnlyGrow(t *testing.T) {
	tel := newTest(t, Config{})
	c := tel.Metrics.RaftLogEntries
	c.Raise(10)
	c.Raise(4)
	c.Add(-3)
	c.Inc()
	if v := c.f.snapshot()[0].value; v != 11 {
		t.Errorf("counter is %v, want 11", v)
	}
}

func TestSeriesAreBoundedAndAnyLabelIsSafe(t *testing.T) {
	tel := newTest(t, Config{})
	c := tel.Metrics.WorkloadReplicaRestarts
	c.Inc("default", "bad\xffname")
	for i := range seriesMax + 5 {
		c.Inc("default", strings.Repeat("x", i%50)+string(rune('a'+i%26))+string(rune(0x4e00+i)))
	}
	if n := len(c.f.snapshot()); n != seriesMax {
		t.Errorf("%d series, want %d", n, seriesMax)
	}
	if w := get(t, tel.Handler(), "/"); w.Code != http.StatusOK {
		t.Errorf("scrape: %d %s", w.Code, w.Body)
	}
}

func TestMetricsCanBeUsedConcurrently(t *testing.T) {
	tel := newTest(t, Config{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				tel.Metrics.SchedulingDecisions.Inc("placed")
				tel.Metrics.NodesByState.Replace([]Sample{{[]string{"ready"}, 1}})
			}
		})
	}
	wg.Go(func() { get(t, tel.Handler(), "/") })
	wg.Wait()
	const want = `cloudless_scheduling_decisions_total{result="placed"} 1600`
	if text := get(t, tel.Handler(), "/").Body.String(); !strings.Contains(text, want) {
		t.Errorf("want %s in\n%s", want, text)
	}
}

func TestHealthTellsTheTruth(t *testing.T) {
	tel := newTest(t, Config{})
	var disk, leader error
	tel.AddCheck("disk", false, func(context.Context) error { return disk })
	tel.AddCheck("leader", true, func(context.Context) error { return leader })
	mux := tel.ServeMux()
	for _, c := range []struct {
		name          string
		disk, leader  error
		path          string
		code          int
		want          map[string]checkAnswer
		wantedVerdict string
	}{
		{"well", nil, nil, "/ready", 200, map[string]checkAnswer{"disk": {OK: true}, "leader": {OK: true}}, "ok"},
		{"not ready", nil, errors.New("no leader"), "/ready", 503, map[string]checkAnswer{"disk": {OK: true}, "leader": {Error: "no leader"}}, "failing"},
		{"not ready is still healthy", nil, errors.New("no leader"), "/health", 200, map[string]checkAnswer{"disk": {OK: true}}, "ok"},
		{"ill", errors.New("disk full"), nil, "/health", 503, map[string]checkAnswer{"disk": {Error: "disk full"}}, "failing"},
		{"ill is not ready", errors.New("disk full"), nil, "/ready", 503, map[string]checkAnswer{"disk": {Error: "disk full"}, "leader": {OK: true}}, "failing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk, leader = c.disk, c.leader
			w := get(t, mux, c.path)
			var got healthAnswer
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if w.Code != c.code {
				t.Errorf("status %d, want %d", w.Code, c.code)
			}
			if d := cmp.Diff(healthAnswer{c.wantedVerdict, c.want}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAPanickingCheckIsAFailureAndNoMore(t *testing.T) {
	tel := newTest(t, Config{})
	tel.AddCheck("bad", false, func(context.Context) error { panic("oops") })
	if w := get(t, tel.Health(), "/health"); w.Code != 503 || !strings.Contains(w.Body.String(), "oops") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestLogsAreJSONWithRoleNodeAndTime(t *testing.T) {
	var out bytes.Buffer
	tel := newTest(t, Config{Role: "agent", Node: "n1", LogWriter: &out, LogLevel: "warn"})
	tel.Log.Info().Msg("not shown")
	tel.Log.Warn().Str("workload", "hello").Msg("shown")
	var got map[string]string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if len(got["time"]) != len(timeFormat) {
		t.Errorf("time %q", got["time"])
	}
	delete(got, "time")
	want := map[string]string{"level": "warn", "role": "agent", "node": "n1", "workload": "hello", "message": "shown"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestConsoleLogsAreForPeople(t *testing.T) {
	var out bytes.Buffer
	tel := newTest(t, Config{LogWriter: &out, Console: true})
	tel.Log.Info().Msg("hello there")
	if s := out.String(); !strings.Contains(s, "hello there") || strings.Contains(s, "{") {
		t.Errorf("console line %q", s)
	}
}

func TestWrongConfigurationIsRefused(t *testing.T) {
	for _, cfg := range []Config{
		{LogLevel: "loud"},
		{OTLPSampling: "often"},
		{OTLPSampling: "1.5"},
		{OTLPSampling: "NaN"},
		{OTLPEndpoint: "ftp://collector"},
		{OTLPEndpoint: "http://"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

// Loggers that were derived before follow too; what is wrong changes nothing.
func TestAdjustChangesTheLogLevel(t *testing.T) {
	var out bytes.Buffer
	tel := newTest(t, Config{LogWriter: &out, LogLevel: "warn"})
	derived := tel.Log.With().Str("part", "x").Logger()
	derived.Debug().Msg("early")
	if _, err := tel.Adjust("debug", "always"); err != nil {
		t.Fatal(err)
	}
	derived.Debug().Msg("later")
	for _, wrong := range [][2]string{{"loud", "always"}, {"error", "sometimes"}} {
		if _, err := tel.Adjust(wrong[0], wrong[1]); err == nil {
			t.Errorf("%v was taken", wrong)
		}
	}
	tel.Log.Debug().Msg("still")
	if _, err := tel.Adjust("error", "always"); err != nil {
		t.Fatal(err)
	}
	derived.Warn().Msg("over")
	if got := out.String(); strings.Contains(got, "early") || !strings.Contains(got, "later") || !strings.Contains(got, "still") || strings.Contains(got, "over") {
		t.Errorf("logged\n%s", got)
	}
}
