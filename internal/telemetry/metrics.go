package telemetry

import (
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// prefix of all our metrics; Go's and the process's own keep their usual names.
const prefix = "cloudless_"

// Metrics are the contract's, by the names of CONTRACT §5. The comment of a field names its labels
// in the order in which their values are given. A node that a metric is about is labelled
// node_name, because node is the role's own constant label.
type Metrics struct {
	SchedulingDecisions     Counter   // scheduling_decisions_total: result (placed | no_room)
	SchedulingDuration      Histogram // scheduling_duration_seconds
	PlacementScore          Histogram // placement_score_distribution
	ReschedulingOperations  Counter   // rescheduling_operations_total: reason
	SchedulingQueueDepth    Gauge     // scheduling_queue_depth
	NodesByState            Gauge     // nodes_by_state: state
	NodeReliability         Gauge     // node_reliability_score: node_name
	NodeCapacity            Gauge     // node_resource_capacity: node_name, resource
	NodeUsage               Gauge     // node_resource_usage: node_name, resource (cpu in cores, memory in bytes)
	NodeFragmentUtilization Gauge     // node_fragment_utilization: node_name
	NodeHeartbeatLatency    Histogram // node_heartbeat_latency_seconds
	NodeEnrollments         Counter   // node_enrollments_total: result (ok | refused)

	WorkloadsByPhase            Gauge     // workloads_by_phase: phase
	WorkloadReplicasDesired     Gauge     // workload_replicas_desired: namespace, workload
	WorkloadReplicasReady       Gauge     // workload_replicas_ready: namespace, workload
	WorkloadReplicaRestarts     Counter   // workload_replica_restarts: namespace, workload
	WorkloadHealthCheckFailures Counter   // workload_health_check_failures: namespace, workload, probe
	WorkloadCreationDuration    Histogram // workload_creation_duration_seconds: created to ready
	WorkloadScaleOperations     Counter   // workload_scale_operations_total

	ContainerOperations        Counter   // container_operations_total: operation, result (ok | error)
	ContainerOperationDuration Histogram // container_operation_duration_seconds: operation
	RunningContainers          Gauge     // running_containers_total: variant (wasm | container)

	WasmFuel      Counter // wasm_fuel_total: namespace, workload
	WasmInstances Gauge   // wasm_instances: namespace, workload

	StorageChunks            Gauge     // storage_chunks_total
	StorageUsed              Gauge     // storage_used_bytes
	StorageCapacity          Gauge     // storage_capacity_bytes
	StorageOperations        Counter   // storage_operations_total: operation, result (ok | error)
	StorageOperationDuration Histogram // storage_operation_duration_seconds: operation
	Objects                  Gauge     // objects_total: bucket; on coordinators
	ReplicationLag           Gauge     // replication_lag_seconds: 0 while no chunk is short of copies
	RepairOperations         Counter   // repair_operations_total: operation (copy | move | drop), result (ok | error)

	NetworkConnections   Counter   // network_connections_total: kind (ingress | tcp | node)
	NetworkBytes         Counter   // network_bytes_transferred: direction (in | out)
	NetworkLatency       Histogram // network_latency_seconds: kind
	NATTraversalAttempts Counter   // nat_traversal_attempts: result (direct | relayed | failed)

	LeaderElections  Counter // coordinator_leader_elections_total: won by this coordinator
	IsLeader         Gauge   // coordinator_is_leader
	RaftLogEntries   Counter // raft_log_entries_total: Raise it to the last index
	RaftAppliedIndex Gauge   // raft_applied_index
}

// words are what a label can be, where that is known.
type words []string

var (
	results    = words{"ok", "error"}
	operations = words{"prepare", "start", "adopt", "stop", "exec"}
	kinds      = words{"ingress", "tcp", "node"}
)

var (
	scoreBuckets = prometheus.LinearBuckets(0, 10, 11)
	// latencyBuckets go from what a loop on one machine takes to what a person gives up on.
	latencyBuckets = []float64{.00001, .0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
)

func newMetrics(registry *prometheus.Registry, cfg Config, started time.Time) (*Metrics, error) {
	r := &registrar{to: registry}
	if cfg.Node != "" {
		r.to = prometheus.WrapRegistererWith(prometheus.Labels{"node": cfg.Node}, registry)
	}
	r.add(collectors.NewGoCollector())
	r.add(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := &Metrics{}
	m.registerScheduling(r)
	m.registerNodes(r)
	m.registerWorkloads(r)
	m.registerSandboxes(r)
	m.registerStorage(r)
	m.registerCoordinator(r)
	registerSystem(r, cfg, started)
	return m, r.err
}

func (m *Metrics) registerScheduling(r *registrar) {
	m.SchedulingDecisions = r.counter("scheduling_decisions_total", "Placement decisions by their result.", "result").from(words{"placed", "no_room"})
	m.SchedulingDuration = r.histogram("scheduling_duration_seconds", "Time that one placement took.", latencyBuckets)
	m.PlacementScore = r.histogram("placement_score_distribution", "Scores of the nodes that were chosen.", scoreBuckets)
	m.ReschedulingOperations = r.counter("rescheduling_operations_total", "Replicas that were placed anew, by reason.", "reason").from(words{"node_lost"})
	m.SchedulingQueueDepth = r.gauge("scheduling_queue_depth", "Replicas that wait for a node.")
}

func (m *Metrics) registerNodes(r *registrar) {
	m.NodesByState = r.gauge("nodes_by_state", "Nodes in each state.", "state")
	m.NodeReliability = r.gauge("node_reliability_score", "How dependable a node has been, 0 to 1.", "node_name")
	m.NodeCapacity = r.gauge("node_resource_capacity", "What a node offers: CPU in cores, memory in bytes.", "node_name", "resource")
	m.NodeUsage = r.gauge("node_resource_usage", "What is in use on a node, in the units of its capacity.", "node_name", "resource")
	m.NodeFragmentUtilization = r.gauge("node_fragment_utilization", "Share of a node's memory that replicas have reserved, 0 to 1.", "node_name")
	m.NodeHeartbeatLatency = r.histogram("node_heartbeat_latency_seconds", "Round-trip time of heartbeats.", latencyBuckets)
	m.NodeEnrollments = r.counter("node_enrollments_total", "Attempts of nodes to join, by result.", "result").from(words{"ok", "refused"})
}

func (m *Metrics) registerWorkloads(r *registrar) {
	m.WorkloadsByPhase = r.gauge("workloads_by_phase", "Workloads in each phase.", "phase")
	m.WorkloadReplicasDesired = r.gauge("workload_replicas_desired", "Replicas asked for.", "namespace", "workload")
	m.WorkloadReplicasReady = r.gauge("workload_replicas_ready", "Replicas that are ready.", "namespace", "workload")
	m.WorkloadReplicaRestarts = r.counter("workload_replica_restarts", "Restarts of replicas.", "namespace", "workload")
	m.WorkloadHealthCheckFailures = r.counter("workload_health_check_failures", "Probes that failed.", "namespace", "workload", "probe")
	m.WorkloadCreationDuration = r.histogram("workload_creation_duration_seconds", "Time from a workload's creation until it was ready.", latencyBuckets)
	m.WorkloadScaleOperations = r.counter("workload_scale_operations_total", "Changes of a workload's number of replicas.")
}

func (m *Metrics) registerSandboxes(r *registrar) {
	m.ContainerOperations = r.counter("container_operations_total", "Operations on sandboxes of either kind.", "operation", "result").from(operations, results)
	m.ContainerOperationDuration = r.histogram("container_operation_duration_seconds", "Time that operations on sandboxes took.", latencyBuckets, "operation").from(operations)
	m.RunningContainers = r.gauge("running_containers_total", "Sandboxes that run, by variant.", "variant")
	m.WasmFuel = r.counter("wasm_fuel_total", "Fuel that wasm guests have used here, about one for each instruction.", "namespace", "workload")
	m.WasmInstances = r.gauge("wasm_instances", "Instances of wasm guests on this node.", "namespace", "workload")
	m.NetworkConnections = r.counter("network_connections_total", "Connections accepted or made.", "kind").from(kinds)
	m.NetworkBytes = r.counter("network_bytes_transferred", "Bytes carried for workloads.", "direction").from(words{"in", "out"})
	m.NetworkLatency = r.histogram("network_latency_seconds", "Time until a connection or an answer came.", latencyBuckets, "kind").from(kinds)
	m.NATTraversalAttempts = r.counter("nat_traversal_attempts", "Attempts to reach a node, by the way that worked.", "result").from(words{"direct", "relayed", "failed"})
}

func (m *Metrics) registerStorage(r *registrar) {
	m.StorageChunks = r.gauge("storage_chunks_total", "Chunks in the store of this node.")
	m.StorageUsed = r.gauge("storage_used_bytes", "Bytes of the disk that the store of this node uses.")
	m.StorageCapacity = r.gauge("storage_capacity_bytes", "Bytes that the store of this node may use.")
	m.StorageOperations = r.counter("storage_operations_total", "Operations on the object store.", "operation", "result")
	m.Objects = r.gauge("objects_total", "Objects of a bucket.", "bucket")
	m.ReplicationLag = r.gauge("replication_lag_seconds", "Since when there have been chunks with fewer copies than they are to have; 0 when there are none.")
	m.RepairOperations = r.counter("repair_operations_total", "Copies of chunks made because one was missing (copy) or in the wrong place (move), and copies dropped.", "operation", "result").from(words{"copy", "move", "drop"}, results)
	m.StorageOperationDuration = r.histogram("storage_operation_duration_seconds", "Time that operations on the object store took.", latencyBuckets, "operation")
}

func (m *Metrics) registerCoordinator(r *registrar) {
	m.LeaderElections = r.counter("coordinator_leader_elections_total", "Elections that this coordinator won.")
	m.IsLeader = r.gauge("coordinator_is_leader", "1 on the leader, else 0.")
	m.RaftLogEntries = r.counter("raft_log_entries_total", "Entries ever written to the Raft log.")
	m.RaftAppliedIndex = r.gauge("raft_applied_index", "Index of the last Raft entry that was applied.")
}

func registerSystem(r *registrar, cfg Config, started time.Time) {
	info := r.gauge("system_info", "What runs here; always 1.", "role", "version", "go_version", "os", "arch")
	info.Set(1, cfg.Role, cfg.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	r.add(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: prefix + "uptime_seconds", Help: "Time since this role started.",
	}, func() float64 { return time.Since(started).Seconds() }))
}

// registrar makes and registers metrics, and keeps the first error.
type registrar struct {
	to  prometheus.Registerer
	err error
}

func (r *registrar) add(c prometheus.Collector) {
	if err := r.to.Register(c); err != nil && r.err == nil {
		r.err = err
	}
}

func (r *registrar) family(labels []string, ways ...described) *family {
	f := newFamily(labels, ways...)
	r.add(f)
	return f
}

// counter makes a counter. The contract's names came first: one that does not end in _total, as a
// typed counter must, is untyped, and exists a second time, typed, with _total.
func (r *registrar) counter(name, help string, labels ...string) Counter {
	if strings.HasSuffix(name, "_total") {
		return Counter{r.family(labels, describe(name, help, labels, prometheus.CounterValue))}
	}
	return Counter{r.family(labels,
		describe(name, help, labels, prometheus.UntypedValue),
		describe(name+"_total", help, labels, prometheus.CounterValue))}
}

// gauge makes a gauge, untyped when its name ends in _total, which only a counter's may.
func (r *registrar) gauge(name, help string, labels ...string) Gauge {
	kind := prometheus.GaugeValue
	if strings.HasSuffix(name, "_total") {
		kind = prometheus.UntypedValue
	}
	return Gauge{r.family(labels, describe(name, help, labels, kind))}
}

func (r *registrar) histogram(name, help string, buckets []float64, labels ...string) Histogram {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, labels)
	r.add(v)
	if len(labels) == 0 {
		v.WithLabelValues() // exists from the start, with no observations
	}
	return Histogram{v}
}

func describe(name, help string, labels []string, kind prometheus.ValueType) described {
	return described{prometheus.NewDesc(prefix+name, help, labels, nil), kind}
}
