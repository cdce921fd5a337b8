package api

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// FieldError is one thing that is wrong with a manifest. Path is written as users write it
// ("spec.ports[0].port").
type FieldError struct {
	Path    string `json:"path"`
	Message string `json:"message"`
	Code    Code   `json:"code,omitempty"`
}

func (e FieldError) Error() string { return e.Path + ": " + e.Message }

// FieldErrors is everything that is wrong, in the order of the manifest's fields.
type FieldErrors []FieldError

func (es FieldErrors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "; ")
}

// Err is nil for no errors, else an Error that lists them all: CodeUnsupported when every one of
// them is about a part that is not built, CodeInvalid otherwise.
func (es FieldErrors) Err() error {
	if len(es) == 0 {
		return nil
	}
	code := CodeUnsupported
	for _, e := range es {
		if e.Code != CodeUnsupported {
			code = CodeInvalid
		}
	}
	return &Error{Code: code, Message: es.Error(), Hint: "see 'cloudless workload schema'", Err: es}
}

var (
	labelPattern   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	keyPattern     = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$`)
	envPattern     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	userPattern    = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]*(:[a-z0-9_][a-z0-9_-]*)?$`)
	imagePattern   = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$`)
	capabilityName = regexp.MustCompile(`^(CAP_)?[A-Z][A-Z_]+$`)
)

// ValidName tells whether s is a DNS label as names and namespaces must be.
func ValidName(s string) bool { return len(s) <= MaxNameLen && labelPattern.MatchString(s) }

type validator struct{ errs FieldErrors }

func (v *validator) add(path, format string, args ...any) {
	v.errs = append(v.errs, FieldError{path, fmt.Sprintf(format, args...), CodeInvalid})
}

func (v *validator) check(ok bool, path, format string, args ...any) {
	if !ok {
		v.add(path, format, args...)
	}
}

// unsupported refuses a field of the contract whose part is not built.
func (v *validator) unsupported(set bool, path string) {
	if set {
		v.errs = append(v.errs, FieldError{path, "not supported by this version", CodeUnsupported})
	}
}

func (v *validator) oneOf(path, have string, allowed ...string) {
	v.check(slices.Contains(allowed, have), path, "%q is not one of %s", have, strings.Join(allowed, ", "))
}

// Validate returns everything that is wrong with a workload on which Default was called.
func (w *Workload) Validate() FieldErrors {
	v := &validator{}
	v.check(w.APIVersion == APIVersion, "apiVersion", "%q is not %q", w.APIVersion, APIVersion)
	v.check(w.Kind == KindWorkload, "kind", "%q is not %q", w.Kind, KindWorkload)
	v.metadata(&w.Metadata)
	v.spec(&w.Spec)
	return v.errs
}

func (v *validator) name(path, s string) {
	v.check(ValidName(s), path, "%q is not a name: use a-z, 0-9 and '-' inside, 1 to %d characters", s, MaxNameLen)
}

func (v *validator) metadata(m *Metadata) {
	v.name("metadata.name", m.Name)
	v.name("metadata.namespace", m.Namespace)
	v.errs = append(v.errs, ValidateLabels("metadata.labels", m.Labels)...)
}

// ValidateLabels checks keys, values and number of labels.
func ValidateLabels(path string, labels map[string]string) FieldErrors {
	v := &validator{}
	v.check(len(labels) <= MaxLabels, path, "has %d entries, at most %d are allowed", len(labels), MaxLabels)
	for _, k := range sortedKeys(labels) {
		v.check(len(k) <= MaxLabelKeyLen && keyPattern.MatchString(k), path+"."+k, "is not a label key: use letters, digits, '-', '_', '.', '/' inside, at most %d bytes", MaxLabelKeyLen)
		v.check(len(labels[k]) <= MaxLabelValueLen, path+"."+k, "has a value of %d bytes, at most %d are allowed", len(labels[k]), MaxLabelValueLen)
	}
	return v.errs
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (v *validator) spec(s *WorkloadSpec) {
	n := s.Count()
	v.check(n >= 0 && n <= MaxReplicas, "spec.replicas", "%d is not between 0 and %d", n, MaxReplicas)
	v.check(s.Priority >= 0 && s.Priority <= MaxPriority, "spec.priority", "%d is not between 0 and %d", s.Priority, MaxPriority)
	v.check(s.Wasm != nil || s.Container != nil, "spec", "has neither wasm nor container: name what to run")
	v.oneOf("spec.preferred", string(s.Preferred), "", string(VariantWasm), string(VariantContainer))
	v.check(s.Preferred == "" || s.Has(s.Preferred), "spec.preferred", "names %s, which the spec does not have", s.Preferred)
	v.wasm(s)
	v.container(s.Container)
	v.env(s.Env)
	v.unsupported(len(s.Secrets) > 0, "spec.secrets")
	v.resources(s.Resources)
	v.ports(s)
	v.hosts(s.Hosts)
	v.volumes(s)
	v.buckets(s)
	v.probe("spec.probes.readiness", s.Probes.Readiness, s)
	v.probe("spec.probes.liveness", s.Probes.Liveness, s)
	v.restart(s)
	v.rollout(s)
	v.placement(&s.Placement)
	v.oneOf("spec.onDisconnect", s.OnDisconnect, "keep", "stop")
	v.unsupported(s.OnDisconnect == "stop", "spec.onDisconnect")
	v.unsupported(s.Exclusive, "spec.exclusive")
	v.unsupported(s.Schedule != "", "spec.schedule")
	v.egress(s)
}

func (v *validator) wasm(s *WorkloadSpec) {
	w := s.Wasm
	if w == nil {
		return
	}
	switch {
	case IsDigest(w.Module):
	case w.Module == "":
		v.add("spec.wasm.module", "is empty: name a .wasm file or a sha256:… digest")
	case strings.HasPrefix(w.Module, "oci://"):
		v.unsupported(true, "spec.wasm.module (oci://)")
	default:
		v.add("spec.wasm.module", "%q is not a digest: the API takes sha256:… of an uploaded module; the command line uploads a path", w.Module)
	}
	v.oneOf("spec.wasm.mode", string(w.Mode), string(ModeHTTP), string(ModeService), string(ModeJob))
	v.oneOf("spec.wasm.interface", w.Interface, "", "cl", "wagi", "listener")

	v.check(len(w.Args) <= MaxArgs, "spec.wasm.args", "has %d entries, at most %d are allowed", len(w.Args), MaxArgs)
	v.signature("spec.wasm.signature", w.Signature)
	v.served(w)
	if s.Container == nil {
		v.check(w.Mode != ModeJob || s.Restart.Policy != RestartAlways, "spec.restart.policy", "always is not for a job: use onFailure or never")
	}
}

// served checks how a module answers requests, which modes other than http do not.
func (v *validator) served(w *WasmSpec) {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"interface", w.Interface != ""}, {"isolation", w.Isolation != ""}, {"timeout", w.Timeout != 0},
		{"maxConcurrency", w.MaxConcurrency != 0}, {"idleAfter", w.IdleAfter != 0},
	} {
		v.check(!f.set || w.Mode == ModeHTTP, "spec.wasm."+f.name, "is for mode http only")
	}
	v.oneOf("spec.wasm.isolation", w.Isolation, "", IsolationRequest, IsolationInstance, IsolationFresh)
	v.check(w.Timeout >= 0 && w.Timeout.D() <= MaxHTTPTimeout, "spec.wasm.timeout", "%s is not between 0 and %s", w.Timeout, MaxHTTPTimeout)
	v.check(w.MaxConcurrency >= 0 && w.MaxConcurrency <= MaxConcurrency, "spec.wasm.maxConcurrency", "%d is not between 1 and %d", w.MaxConcurrency, MaxConcurrency)
	idle := w.IdleAfter.D()
	v.check(idle == 0 || idle >= MinIdleAfter && idle <= MaxIdleAfter, "spec.wasm.idleAfter", "%s is not between %s and %s", w.IdleAfter, MinIdleAfter, MaxIdleAfter)
}

// egress checks what a module may reach. Of containers nothing would hold them to it yet.
func (v *validator) egress(s *WorkloadSpec) {
	if s.Egress == nil {
		return
	}
	if s.Container != nil {
		v.errs = append(v.errs, FieldError{"spec.egress", "egress rules for containers are not supported by this version: take the rules out, or the container", CodeUnsupported})
	}
	v.check(len(s.Egress.Allow) <= MaxEgress, "spec.egress.allow", "has %d entries, at most %d are allowed", len(s.Egress.Allow), MaxEgress)
	for i, text := range s.Egress.Allow {
		if _, err := ParseEgressRule(text); err != nil {
			v.add(fmt.Sprintf("spec.egress.allow[%d]", i), "%v", err)
		}
	}
}

func (v *validator) container(c *ContainerSpec) {
	if c == nil {
		return
	}
	v.check(IsDigest(c.Image) || imagePattern.MatchString(c.Image) && len(c.Image) <= 512, "spec.container.image", "%q is not an image reference or a sha256:… digest", c.Image)
	v.check(len(c.Command) <= MaxArgs, "spec.container.command", "has %d entries, at most %d are allowed", len(c.Command), MaxArgs)
	v.check(len(c.Args) <= MaxArgs, "spec.container.args", "has %d entries, at most %d are allowed", len(c.Args), MaxArgs)
	v.check(c.User == "" || userPattern.MatchString(c.User), "spec.container.user", "%q is not uid, uid:gid or a user name", c.User)
	v.oneOf("spec.container.network", c.Network, "bridge", "host")
	for i, name := range c.Capabilities {
		v.check(capabilityName.MatchString(name), fmt.Sprintf("spec.container.capabilities[%d]", i), "%q is not a capability such as NET_BIND_SERVICE", name)
	}
}

func (v *validator) env(env map[string]string) {
	v.check(len(env) <= MaxEnv, "spec.env", "has %d variables, at most %d are allowed", len(env), MaxEnv)
	total := 0
	for _, k := range sortedKeys(env) {
		total += len(k) + len(env[k])
		v.check(envPattern.MatchString(k), "spec.env."+k, "is not the name of a variable: use letters, digits and '_'")
		v.check(!strings.ContainsRune(env[k], 0), "spec.env."+k, "has a NUL byte in its value")
	}
	v.check(total <= MaxEnvBytes, "spec.env", "is %d bytes, at most %d are allowed", total, MaxEnvBytes)
}

func (v *validator) resources(r Resources) {
	v.check(r.Memory == 0 || r.Memory >= 64<<10, "spec.resources.memory", "%s is less than one wasm page (64Ki)", r.Memory)
	v.unsupported(r.Bandwidth != "", "spec.resources.bandwidth")
}

func (v *validator) ports(s *WorkloadSpec) {
	v.check(len(s.Ports) <= MaxPorts, "spec.ports", "has %d entries, at most %d are allowed", len(s.Ports), MaxPorts)
	names, numbers, published := map[string]bool{}, map[int]bool{}, map[int]bool{}
	for i, p := range s.Ports {
		path := fmt.Sprintf("spec.ports[%d]", i)
		v.check(validPort(p.Port), path+".port", "%d is not between 1 and 65535", p.Port)
		v.oneOf(path+".protocol", p.Protocol, ProtocolHTTP, ProtocolTCP)
		v.name(path+".name", p.Name)
		v.check(!names[p.Name], path+".name", "%q is used twice", p.Name)
		v.check(!numbers[p.Port], path+".port", "%d is used twice", p.Port)
		names[p.Name], numbers[p.Port] = true, true
		if p.Protocol == ProtocolTCP {
			v.check(validPort(p.Publish), path+".publish", "%d is not between 1 and 65535", p.Publish)
			v.check(!published[p.Publish], path+".publish", "%d is used twice", p.Publish)
			published[p.Publish] = true
			v.check(s.Container != nil, path+".protocol", "tcp needs a container: wasm replicas serve http only")
		} else {
			v.check(p.Publish == 0, path+".publish", "is for tcp ports only: http is reached by Host through the ingress")
		}
	}
}

func validPort(p int) bool { return p >= 1 && p <= 65535 }

func (v *validator) hosts(hosts []string) {
	v.check(len(hosts) <= MaxHosts, "spec.hosts", "has %d entries, at most %d are allowed", len(hosts), MaxHosts)
	for i, h := range hosts {
		path := fmt.Sprintf("spec.hosts[%d]", i)
		v.check(validHost(h), path, "%q is not a DNS name (without port or wildcard)", h)
		v.check(h != "localhost" && !strings.HasSuffix(h, ".localhost"), path, "%q is under .localhost, which the cluster gives out by itself", h)
	}
}

func validHost(h string) bool {
	if h == "" || len(h) > MaxHostLen {
		return false
	}
	if _, err := netip.ParseAddr(h); err == nil {
		return false
	}
	for _, part := range strings.Split(h, ".") {
		if !ValidName(part) {
			return false
		}
	}
	return true
}

func (v *validator) probe(path string, p *Probe, s *WorkloadSpec) {
	if p == nil {
		return
	}
	kinds := 0
	if p.HTTP != nil {
		kinds++
		v.check(strings.HasPrefix(p.HTTP.Path, "/"), path+".http.path", "%q does not begin with '/'", p.HTTP.Path)
		v.check(s.ServesHTTP() || p.HTTP.Port != 0, path+".http", "needs a port: the workload has no http port")
		v.check(p.HTTP.Port == 0 || validPort(p.HTTP.Port), path+".http.port", "%d is not between 1 and 65535", p.HTTP.Port)
	}
	if p.TCP != nil {
		kinds++
		v.check(validPort(p.TCP.Port), path+".tcp.port", "%d is not between 1 and 65535", p.TCP.Port)
		v.check(s.Wasm == nil, path+".tcp", "is for containers only: a wasm replica has no port")
	}
	if p.Exec != nil {
		kinds++
		v.check(len(p.Exec.Command) > 0, path+".exec.command", "is empty")
		v.check(s.Wasm == nil, path+".exec", "is for containers only: nothing can be executed in a wasm replica")
	}
	v.check(kinds == 1, path, "has %d of http, tcp and exec: name exactly one", kinds)
	v.check(p.Failures >= 1, path+".failures", "%d is less than 1", p.Failures)
	v.check(p.Interval.D() >= 10*time.Millisecond, path+".interval", "%s is less than 10ms", p.Interval)
	v.check(p.Timeout.D() >= time.Millisecond, path+".timeout", "%s is less than 1ms", p.Timeout)
}

func (v *validator) restart(s *WorkloadSpec) {
	r := s.Restart
	v.oneOf("spec.restart.policy", r.Policy, RestartAlways, RestartOnFailure, RestartNever)
	v.check(r.Backoff.D() >= 10*time.Millisecond, "spec.restart.backoff", "%s is less than 10ms", r.Backoff)
	v.check(r.MaxBackoff >= r.Backoff, "spec.restart.maxBackoff", "%s is less than backoff (%s)", r.MaxBackoff, r.Backoff)
}

func (v *validator) rollout(s *WorkloadSpec) {
	r := s.Rollout
	v.oneOf("spec.rollout.strategy", r.Strategy, "", "rolling")
	v.unsupported(r.MaxSurge != nil && *r.MaxSurge != 1, "spec.rollout.maxSurge (other than 1)")
	if r.MinAvailable != nil {
		v.check(*r.MinAvailable >= 0 && *r.MinAvailable <= s.Count(), "spec.rollout.minAvailable", "%d is not between 0 and the number of replicas (%d)", *r.MinAvailable, s.Count())
	}
	v.unsupported(r.Canary != 0, "spec.rollout.canary")
	v.unsupported(r.AutoRollback, "spec.rollout.autoRollback")
	v.unsupported(r.Deadline != 0, "spec.rollout.deadline")
}

func (v *validator) placement(p *Placement) {
	v.errs = append(v.errs, ValidateLabels("spec.placement.nodeSelector", p.NodeSelector)...)
	if p.Spread != nil {
		v.oneOf("spec.placement.spread.by", p.Spread.By, "zone", "region", "node")
	}
	v.check(len(p.Affinity) <= MaxAffinities, "spec.placement.affinity", "has %d entries, at most %d are allowed", len(p.Affinity), MaxAffinities)
	for i, a := range p.Affinity {
		v.name(fmt.Sprintf("spec.placement.affinity[%d].workload", i), a.Workload)
		v.check(a.Weight >= 1 && a.Weight <= 100, fmt.Sprintf("spec.placement.affinity[%d].weight", i), "%d is not between 1 and 100", a.Weight)
	}
	v.check(len(p.AntiAffinity) <= MaxAffinities, "spec.placement.antiAffinity", "has %d entries, at most %d are allowed", len(p.AntiAffinity), MaxAffinities)
	for i, a := range p.AntiAffinity {
		v.name(fmt.Sprintf("spec.placement.antiAffinity[%d].workload", i), a.Workload)
	}
	v.check(len(p.Tolerations) <= MaxTolerations, "spec.placement.tolerations", "has %d entries, at most %d are allowed", len(p.Tolerations), MaxTolerations)
	for i, t := range p.Tolerations {
		v.oneOf(fmt.Sprintf("spec.placement.tolerations[%d].effect", i), t.Effect, "", EffectNoSchedule)
	}
}

// ValidateTaints checks a node's taints.
func ValidateTaints(path string, taints []Taint) FieldErrors {
	v := &validator{}
	v.check(len(taints) <= MaxTaints, path, "has %d entries, at most %d are allowed", len(taints), MaxTaints)
	for i, t := range taints {
		v.check(keyPattern.MatchString(t.Key) && len(t.Key) <= MaxLabelKeyLen, fmt.Sprintf("%s[%d].key", path, i), "%q is not a taint key", t.Key)
		v.oneOf(fmt.Sprintf("%s[%d].effect", path, i), t.Effect, EffectNoSchedule)
	}
	return v.errs
}
