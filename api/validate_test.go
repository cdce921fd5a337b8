package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// wasmWorkload and containerWorkload are right in every way, after change has had its own.
func wasmWorkload(change func(*Workload)) *Workload {
	return workload(WorkloadSpec{Wasm: &WasmSpec{Module: someDigest}}, change)
}

func containerWorkload(change func(*Workload)) *Workload {
	return workload(WorkloadSpec{Container: &ContainerSpec{Image: "registry.example/app:1"}}, change)
}

func workload(spec WorkloadSpec, change func(*Workload)) *Workload {
	w := &Workload{APIVersion: APIVersion, Kind: KindWorkload, Metadata: Metadata{Name: "hello"}, Spec: spec}
	w.Default()
	if change != nil {
		change(w)
	}
	return w
}

func many[T any](n int, f func(i int) T) []T {
	list := make([]T, n)
	for i := range list {
		list[i] = f(i)
	}
	return list
}

func set(n int, f func(i int) (string, string)) map[string]string {
	m := map[string]string{}
	for i := range n {
		k, v := f(i)
		m[k] = v
	}
	return m
}

func numbered(prefix string) func(int) (string, string) {
	return func(i int) (string, string) { return fmt.Sprint(prefix, i), "v" }
}

func letters(n int) string { return strings.Repeat("a", n) }

// longHost is a DNS name of n characters.
func longHost(n int) string {
	h := ""
	for n-len(h) > MaxNameLen {
		h += letters(MaxNameLen-1) + "."
	}
	return h + letters(n-len(h))
}

func withPorts(n int) func(*Workload) {
	return func(w *Workload) {
		w.Spec.Ports = many(n, func(i int) Port { return Port{Name: fmt.Sprint("p", i), Port: i + 1, Protocol: ProtocolHTTP} })
	}
}

func inMode(mode WasmMode, change func(*WasmSpec)) *Workload {
	return wasmWorkload(func(w *Workload) {
		w.Spec.Wasm.Mode, w.Spec.Wasm.Timeout = mode, 0
		change(w.Spec.Wasm)
	})
}

func readiness(p *Probe) func(*Workload) {
	return func(w *Workload) {
		w.Spec.Ports = []Port{{Name: "http", Port: 80, Protocol: ProtocolHTTP}}
		defaultProbe(p, time.Second)
		w.Spec.Probes.Readiness = p
	}
}

const none = -1 << 40 // no lower or no upper limit

// TestEachLimit: at a limit and just inside it all is well; just outside it one field is named.
func TestEachLimit(t *testing.T) {
	inWasm := func(f func(w *Workload, n int)) func(int) *Workload {
		return func(n int) *Workload { return wasmWorkload(func(w *Workload) { f(w, n) }) }
	}
	inContainer := func(f func(w *Workload, n int)) func(int) *Workload {
		return func(n int) *Workload { return containerWorkload(func(w *Workload) { f(w, n) }) }
	}
	tests := []struct {
		path     string
		min, max int
		make     func(n int) *Workload
	}{
		{"metadata.name", 1, MaxNameLen, inWasm(func(w *Workload, n int) { w.Metadata.Name = letters(n) })},
		{"metadata.namespace", 1, MaxNameLen, inWasm(func(w *Workload, n int) { w.Metadata.Namespace = letters(n) })},
		{"metadata.labels", none, MaxLabels, inWasm(func(w *Workload, n int) { w.Metadata.Labels = set(n, numbered("l")) })},
		{"metadata.labels." + letters(MaxLabelKeyLen+1), none, MaxLabelKeyLen, inWasm(func(w *Workload, n int) { w.Metadata.Labels = map[string]string{letters(n): ""} })},
		{"metadata.labels.app", none, MaxLabelValueLen, inWasm(func(w *Workload, n int) { w.Metadata.Labels = map[string]string{"app": letters(n)} })},
		{"spec.replicas", 0, MaxReplicas, inWasm(func(w *Workload, n int) { w.Spec.Replicas = &n })},
		{"spec.priority", 0, MaxPriority, inWasm(func(w *Workload, n int) { w.Spec.Priority = n })},
		{"spec.wasm.args", none, MaxArgs, inWasm(func(w *Workload, n int) { w.Spec.Wasm.Args = make([]string, n) })},
		{"spec.wasm.timeout", 0, int(MaxHTTPTimeout), inWasm(func(w *Workload, n int) { w.Spec.Wasm.Timeout = Duration(n) })},
		{"spec.wasm.maxConcurrency", 0, MaxConcurrency, inWasm(func(w *Workload, n int) { w.Spec.Wasm.MaxConcurrency = n })},
		{"spec.wasm.idleAfter", int(MinIdleAfter), int(MaxIdleAfter), inWasm(func(w *Workload, n int) { w.Spec.Wasm.IdleAfter = Duration(n) })},
		{"spec.wasm.signature", none, MaxSignatureBytes, inWasm(func(w *Workload, n int) { w.Spec.Wasm.Signature = signatureOf(n) })},
		{"spec.egress.allow", none, MaxEgress, inWasm(func(w *Workload, n int) {
			w.Spec.Egress = &Egress{many(n, func(i int) string { return fmt.Sprintf("h%d.example:443", i) })}
		})},
		{"spec.egress.allow[0]", 1, 65535, inWasm(func(w *Workload, n int) { w.Spec.Egress = &Egress{[]string{fmt.Sprintf("a.example:%d", n)}} })},
		{"spec.container.image", 1, 512, inContainer(func(w *Workload, n int) { w.Spec.Container.Image = letters(n) })},
		{"spec.container.command", none, MaxArgs, inContainer(func(w *Workload, n int) { w.Spec.Container.Command = make([]string, n) })},
		{"spec.container.args", none, MaxArgs, inContainer(func(w *Workload, n int) { w.Spec.Container.Args = make([]string, n) })},
		{"spec.env", none, MaxEnv, inWasm(func(w *Workload, n int) { w.Spec.Env = set(n, numbered("E")) })},
		{"spec.env", none, MaxEnvBytes, inWasm(func(w *Workload, n int) { w.Spec.Env = map[string]string{"NAME": letters(n - 4)} })},
		{"spec.resources.memory", 64 << 10, none, inWasm(func(w *Workload, n int) { w.Spec.Resources.Memory = Bytes(n) })},
		{"spec.ports", none, MaxPorts, func(n int) *Workload { return wasmWorkload(withPorts(n)) }},
		{"spec.ports[0].port", 1, 65535, inWasm(func(w *Workload, n int) { w.Spec.Ports = []Port{{Name: "p", Port: n, Protocol: ProtocolHTTP}} })},
		{"spec.ports[0].publish", 1, 65535, inContainer(func(w *Workload, n int) {
			w.Spec.Ports = []Port{{Name: "p", Port: 1, Protocol: ProtocolTCP, Publish: n}}
		})},
		{"spec.hosts", none, MaxHosts, inWasm(func(w *Workload, n int) {
			w.Spec.Hosts = many(n, func(i int) string { return fmt.Sprintf("h%d.example", i) })
		})},
		{"spec.hosts[0]", 1, MaxHostLen, inWasm(func(w *Workload, n int) { w.Spec.Hosts = []string{longHost(n)} })},
		{"spec.probes.readiness.http.port", 0, 65535, inWasm(func(w *Workload, n int) { readiness(&Probe{HTTP: &HTTPProbe{Path: "/", Port: n}})(w) })},
		{"spec.probes.readiness.tcp.port", 1, 65535, inContainer(func(w *Workload, n int) { readiness(&Probe{TCP: &TCPProbe{Port: n}})(w) })},
		{"spec.probes.readiness.exec.command", 1, none, inContainer(func(w *Workload, n int) { readiness(&Probe{Exec: &ExecProbe{Command: make([]string, n)}})(w) })},
		{"spec.probes.readiness.failures", 1, none, inWasm(func(w *Workload, n int) {
			readiness(&Probe{HTTP: &HTTPProbe{Path: "/"}})(w)
			w.Spec.Probes.Readiness.Failures = n
		})},
		{"spec.probes.readiness.interval", int(10 * time.Millisecond), none, inWasm(func(w *Workload, n int) {
			readiness(&Probe{HTTP: &HTTPProbe{Path: "/"}, Interval: Duration(n)})(w)
		})},
		{"spec.probes.readiness.timeout", int(time.Millisecond), none, inWasm(func(w *Workload, n int) {
			readiness(&Probe{HTTP: &HTTPProbe{Path: "/"}, Timeout: Duration(n)})(w)
		})},
		{"spec.restart.backoff", int(10 * time.Millisecond), none, inWasm(func(w *Workload, n int) { w.Spec.Restart.Backoff = Duration(n) })},
		{"spec.restart.maxBackoff", int(time.Second), none, inWasm(func(w *Workload, n int) { w.Spec.Restart.MaxBackoff = Duration(n) })},
		{"spec.rollout.minAvailable", 0, 3, inWasm(func(w *Workload, n int) {
			three := 3
			w.Spec.Replicas, w.Spec.Rollout.MinAvailable = &three, &n
		})},
		{"spec.placement.nodeSelector", none, MaxLabels, inWasm(func(w *Workload, n int) { w.Spec.Placement.NodeSelector = set(n, numbered("l")) })},
		{"spec.placement.affinity", none, MaxAffinities, inWasm(func(w *Workload, n int) {
			w.Spec.Placement.Affinity = many(n, func(int) Affinity { return Affinity{"other", 1} })
		})},
		{"spec.placement.affinity[0].weight", 1, 100, inWasm(func(w *Workload, n int) { w.Spec.Placement.Affinity = []Affinity{{"other", n}} })},
		{"spec.placement.antiAffinity", none, MaxAffinities, inWasm(func(w *Workload, n int) {
			w.Spec.Placement.AntiAffinity = many(n, func(int) AntiAffinity { return AntiAffinity{"other"} })
		})},
		{"spec.placement.tolerations", none, MaxTolerations, inWasm(func(w *Workload, n int) { w.Spec.Placement.Tolerations = make([]Toleration, n) })},
	}
	for _, tt := range tests {
		good, bad := []int{}, []int{}
		if tt.min != none {
			good, bad = append(good, tt.min, tt.min+1), append(bad, tt.min-1)
		}
		if tt.max != none {
			good, bad = append(good, tt.max-1, tt.max), append(bad, tt.max+1)
		}
		for _, n := range good {
			if errs := wrong(tt.make(n)); len(errs) > 0 {
				t.Errorf("%s with %d: %v", tt.path, n, errs)
			}
		}
		for _, n := range bad {
			if strings.Contains(tt.path, "image") && n == 0 || n < 0 && !signed[tt.path] {
				n = 0 // nothing is shorter than empty
			}
			errs := wrong(tt.make(n))
			if len(errs) == 0 || errs[0].Path != tt.path || errs[0].Code != CodeInvalid || errs[0].Message == "" {
				t.Errorf("%s with %d gave %v, want an error of this field", tt.path, n, errs)
			}
		}
	}
}

// wrong is what is wrong with a workload, without what is right but not built.
func wrong(w *Workload) FieldErrors {
	return slices.DeleteFunc(w.Validate(), func(e FieldError) bool { return e.Code == CodeUnsupported })
}

// signed are the fields whose value is a number that can be below zero.
var signed = map[string]bool{"spec.replicas": true, "spec.priority": true, "spec.rollout.minAvailable": true, "spec.probes.readiness.http.port": true, "spec.wasm.timeout": true, "spec.wasm.maxConcurrency": true}

func TestTaintLimit(t *testing.T) {
	taint := func(i int) Taint { return Taint{Key: fmt.Sprint("k", i), Effect: EffectNoSchedule} }
	if errs := ValidateTaints("taints", many(MaxTaints, taint)); len(errs) > 0 {
		t.Error(errs)
	}
	if errs := ValidateTaints("taints", many(MaxTaints+1, taint)); len(errs) != 1 || errs[0].Path != "taints" {
		t.Error(errs)
	}
	for _, bad := range []Taint{{Key: "", Effect: EffectNoSchedule}, {Key: letters(MaxLabelKeyLen + 1), Effect: EffectNoSchedule}, {Key: "k", Effect: "NoExecute"}, {Key: "-", Effect: EffectNoSchedule}} {
		if errs := ValidateTaints("taints", []Taint{bad}); len(errs) != 1 || !strings.HasPrefix(errs[0].Path, "taints[0].") {
			t.Errorf("%+v: %v", bad, errs)
		}
	}
}

// Each rule that is no limit names the field that breaks it.
func TestEachRule(t *testing.T) {
	tests := []struct {
		path string
		w    *Workload
	}{
		{"apiVersion", wasmWorkload(func(w *Workload) { w.APIVersion = "v2" })},
		{"kind", wasmWorkload(func(w *Workload) { w.Kind = "Pod" })},
		{"metadata.name", wasmWorkload(func(w *Workload) { w.Metadata.Name = "Hello" })},
		{"metadata.name", wasmWorkload(func(w *Workload) { w.Metadata.Name = "-a" })},
		{"metadata.name", wasmWorkload(func(w *Workload) { w.Metadata.Name = "a-" })},
		{"metadata.name", wasmWorkload(func(w *Workload) { w.Metadata.Name = "a.b" })},
		{"metadata.namespace", wasmWorkload(func(w *Workload) { w.Metadata.Namespace = "ä" })},
		{"metadata.labels.a b", wasmWorkload(func(w *Workload) { w.Metadata.Labels = map[string]string{"a b": ""} })},
		{"spec", wasmWorkload(func(w *Workload) { w.Spec.Wasm = nil })},
		{"spec.preferred", wasmWorkload(func(w *Workload) { w.Spec.Preferred = VariantContainer })},
		{"spec.wasm.module", wasmWorkload(func(w *Workload) { w.Spec.Wasm.Module = "" })},
		{"spec.wasm.module", wasmWorkload(func(w *Workload) { w.Spec.Wasm.Module = "hello.wasm" })},
		{"spec.wasm.module", wasmWorkload(func(w *Workload) { w.Spec.Wasm.Module = strings.ToUpper(someDigest) })},
		{"spec.wasm.mode", wasmWorkload(func(w *Workload) { w.Spec.Wasm.Mode, w.Spec.Wasm.Timeout = "lambda", 0 })},
		{"spec.wasm.interface", wasmWorkload(func(w *Workload) { w.Spec.Wasm.Interface = "fastcgi" })},
		{"spec.wasm.interface", wasmWorkload(func(w *Workload) { w.Spec.Wasm.Mode, w.Spec.Wasm.Timeout, w.Spec.Wasm.Interface = ModeService, 0, "cl" })},
		{"spec.wasm.timeout", wasmWorkload(func(w *Workload) { w.Spec.Wasm.Mode = ModeService })},
		{"spec.wasm.isolation", wasmWorkload(func(w *Workload) { w.Spec.Wasm.Isolation = "none" })},
		{"spec.wasm.isolation", inMode(ModeService, func(w *WasmSpec) { w.Isolation = IsolationFresh })},
		{"spec.wasm.maxConcurrency", inMode(ModeService, func(w *WasmSpec) { w.MaxConcurrency = 1 })},
		{"spec.wasm.idleAfter", inMode(ModeService, func(w *WasmSpec) { w.IdleAfter = Duration(MinIdleAfter) })},
		{"spec.wasm.signature", wasmWorkload(func(w *Workload) { w.Spec.Wasm.Signature = "hello.wasm.minisig" })},
		{"spec.restart.policy", wasmWorkload(func(w *Workload) { w.Spec.Wasm.Mode, w.Spec.Wasm.Timeout = ModeJob, 0 })},
		{"spec.restart.policy", wasmWorkload(func(w *Workload) { w.Spec.Restart.Policy = "sometimes" })},
		{"spec.container.image", containerWorkload(func(w *Workload) { w.Spec.Container.Image = "a b" })},
		{"spec.container.user", containerWorkload(func(w *Workload) { w.Spec.Container.User = "a b" })},
		{"spec.container.network", containerWorkload(func(w *Workload) { w.Spec.Container.Network = "none" })},
		{"spec.container.capabilities[1]", containerWorkload(func(w *Workload) { w.Spec.Container.Capabilities = []string{"NET_RAW", "all"} })},
		{"spec.env.1A", wasmWorkload(func(w *Workload) { w.Spec.Env = map[string]string{"1A": ""} })},
		{"spec.env.A", wasmWorkload(func(w *Workload) { w.Spec.Env = map[string]string{"A": "a\x00b"} })},
		{"spec.ports[0].protocol", wasmWorkload(func(w *Workload) { w.Spec.Ports = []Port{{Name: "a", Port: 1, Protocol: "udp"}} })},
		{"spec.ports[0].name", wasmWorkload(func(w *Workload) { w.Spec.Ports = []Port{{Name: "A", Port: 1, Protocol: ProtocolHTTP}} })},
		{"spec.ports[1].name", wasmWorkload(func(w *Workload) { withPorts(2)(w); w.Spec.Ports[1].Name = "p0" })},
		{"spec.ports[1].port", wasmWorkload(func(w *Workload) { withPorts(2)(w); w.Spec.Ports[1].Port = 1 })},
		{"spec.ports[0].publish", wasmWorkload(func(w *Workload) { withPorts(1)(w); w.Spec.Ports[0].Publish = 1 })},
		{"spec.ports[0].protocol", wasmWorkload(func(w *Workload) {
			w.Spec.Ports = []Port{{Name: "a", Port: 1, Protocol: ProtocolTCP, Publish: 1}}
		})},
		{"spec.ports[1].publish", containerWorkload(func(w *Workload) {
			w.Spec.Ports = []Port{{Name: "a", Port: 1, Protocol: ProtocolTCP, Publish: 9}, {Name: "b", Port: 2, Protocol: ProtocolTCP, Publish: 9}}
		})},
		{"spec.hosts[0]", wasmWorkload(func(w *Workload) { w.Spec.Hosts = []string{"*.example.com"} })},
		{"spec.hosts[0]", wasmWorkload(func(w *Workload) { w.Spec.Hosts = []string{"10.0.0.1"} })},
		{"spec.hosts[0]", wasmWorkload(func(w *Workload) { w.Spec.Hosts = []string{"a.example:80"} })},
		{"spec.hosts[0]", wasmWorkload(func(w *Workload) { w.Spec.Hosts = []string{"other.localhost"} })},
		{"spec.hosts[0]", wasmWorkload(func(w *Workload) { w.Spec.Hosts = []string{"localhost"} })},
		{"spec.probes.readiness", wasmWorkload(readiness(&Probe{}))},
		{"spec.probes.readiness", containerWorkload(readiness(&Probe{TCP: &TCPProbe{80}, HTTP: &HTTPProbe{Path: "/"}}))},
		{"spec.probes.readiness.http.path", wasmWorkload(readiness(&Probe{HTTP: &HTTPProbe{Path: "x"}}))},
		{"spec.probes.readiness.tcp", wasmWorkload(readiness(&Probe{TCP: &TCPProbe{80}}))},
		{"spec.probes.readiness.exec", wasmWorkload(readiness(&Probe{Exec: &ExecProbe{[]string{"true"}}}))},
		{"spec.probes.liveness.http", containerWorkload(func(w *Workload) {
			p := &Probe{HTTP: &HTTPProbe{Path: "/"}}
			defaultProbe(p, time.Second)
			w.Spec.Probes.Liveness = p
		})},
		{"spec.rollout.strategy", wasmWorkload(func(w *Workload) { w.Spec.Rollout.Strategy = "recreate" })},
		{"spec.placement.nodeSelector.-", wasmWorkload(func(w *Workload) { w.Spec.Placement.NodeSelector = map[string]string{"-": ""} })},
		{"spec.placement.spread.by", wasmWorkload(func(w *Workload) { w.Spec.Placement.Spread = &Spread{"rack"} })},
		{"spec.placement.affinity[0].workload", wasmWorkload(func(w *Workload) { w.Spec.Placement.Affinity = []Affinity{{"A", 1}} })},
		{"spec.placement.antiAffinity[0].workload", wasmWorkload(func(w *Workload) { w.Spec.Placement.AntiAffinity = []AntiAffinity{{""}} })},
		{"spec.placement.tolerations[0].effect", wasmWorkload(func(w *Workload) { w.Spec.Placement.Tolerations = []Toleration{{Effect: "NoExecute"}} })},
		{"spec.onDisconnect", wasmWorkload(func(w *Workload) { w.Spec.OnDisconnect = "panic" })},
	}
	for _, tt := range tests {
		errs := wrong(tt.w)
		if len(errs) != 1 || errs[0].Path != tt.path || errs[0].Code != CodeInvalid {
			t.Errorf("want one error of %s, got %v", tt.path, errs)
			continue
		}
		if err := errs.Err(); CodeOf(err) != CodeInvalid || !strings.Contains(err.Error(), tt.path) {
			t.Errorf("%s: %v", tt.path, err)
		}
	}
}

// What the contract has and this version has not is refused by name, never ignored.
func TestEachUnbuiltFieldIsRefused(t *testing.T) {
	two := 2
	for path, change := range map[string]func(*Workload){
		"spec.secrets":   func(w *Workload) { w.Spec.Secrets = []SecretRef{{"a", "A"}} },
		"spec.exclusive": func(w *Workload) { w.Spec.Exclusive = true },
		"spec.schedule":  func(w *Workload) { w.Spec.Schedule = "* * * * *" },
		"spec.egress": func(w *Workload) {
			*w = *containerWorkload(func(w *Workload) { w.Spec.Egress = &Egress{} })
		},
		"spec.onDisconnect":                    func(w *Workload) { w.Spec.OnDisconnect = "stop" },
		"spec.resources.bandwidth":             func(w *Workload) { w.Spec.Resources.Bandwidth = "5Mbps" },
		"spec.wasm.module (oci://)":            func(w *Workload) { w.Spec.Wasm.Module = "oci://r.example/m:1" },
		"spec.rollout.maxSurge (other than 1)": func(w *Workload) { w.Spec.Rollout.MaxSurge = &two },
		"spec.rollout.canary":                  func(w *Workload) { w.Spec.Rollout.Canary = 1 },
		"spec.rollout.autoRollback":            func(w *Workload) { w.Spec.Rollout.AutoRollback = true },
		"spec.rollout.deadline":                func(w *Workload) { w.Spec.Rollout.Deadline = 1 },
	} {
		errs := wasmWorkload(change).Validate()
		if len(errs) != 1 || errs[0].Path != path || CodeOf(errs.Err()) != CodeUnsupported {
			t.Errorf("%s: %v", path, errs)
		}
	}
}

// A variant that there is not is wrong in two ways.
func TestPreferred(t *testing.T) {
	for _, e := range wasmWorkload(func(w *Workload) { w.Spec.Preferred = "vm" }).Validate() {
		if e.Path != "spec.preferred" {
			t.Error(e)
		}
	}
	if errs := wasmWorkload(func(w *Workload) { w.Spec.Preferred = VariantWasm }).Validate(); len(errs) > 0 {
		t.Error(errs)
	}
}

// All that is wrong is told at once; one plain error among unbuilt fields makes the whole invalid.
func TestErrorsAreToldTogether(t *testing.T) {
	w := wasmWorkload(func(w *Workload) { w.Kind, w.Spec.Priority, w.Spec.Exclusive = "Pod", -1, true })
	errs := w.Validate()
	if len(errs) != 3 || CodeOf(errs.Err()) != CodeInvalid {
		t.Errorf("%d errors: %v", len(errs), errs)
	}
	if (FieldErrors{}).Err() != nil {
		t.Error("no errors are an error")
	}
	var fields FieldErrors
	if !errors.As(errs.Err(), &fields) || len(fields) != 3 {
		t.Error("the fields are lost in the error")
	}
}

// Default is safe to repeat, and what it makes of the least manifest is valid.
func TestDefaultSettles(t *testing.T) {
	for name, w := range map[string]*Workload{
		"http":      {Spec: WorkloadSpec{Wasm: &WasmSpec{Module: someDigest}, Hosts: []string{"A.Example"}}},
		"job":       {Spec: WorkloadSpec{Wasm: &WasmSpec{Module: someDigest, Mode: ModeJob}}},
		"container": {Spec: WorkloadSpec{Container: &ContainerSpec{Image: "nginx"}, Ports: []Port{{Port: 80}}, Restart: Restart{Backoff: Duration(time.Hour)}}},
		"tcp":       {Spec: WorkloadSpec{Container: &ContainerSpec{Image: "redis"}, Ports: []Port{{Port: 6379, Protocol: ProtocolTCP}}, Probes: Probes{Readiness: &Probe{TCP: &TCPProbe{6379}}, Liveness: &Probe{TCP: &TCPProbe{6379}}}}},
		"affinity":  {Spec: WorkloadSpec{Container: &ContainerSpec{Image: "nginx"}, Placement: Placement{Affinity: []Affinity{{Workload: "x"}}}}},
	} {
		w.APIVersion, w.Kind, w.Metadata.Name = APIVersion, KindWorkload, "hello"
		w.Default()
		if errs := w.Validate(); len(errs) > 0 {
			t.Errorf("%s: %v", name, errs)
		}
		before := fmt.Sprintf("%+v %+v %+v", *w, w.Spec.Wasm, w.Spec.Probes.Readiness)
		w.Default()
		if after := fmt.Sprintf("%+v %+v %+v", *w, w.Spec.Wasm, w.Spec.Probes.Readiness); before != after {
			t.Errorf("%s changed:\n%s\n%s", name, before, after)
		}
	}
}
