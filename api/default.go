package api

import (
	"strings"
	"time"
)

// Default fills in what the manifest leaves out, so that equal intents compare equal.
func (w *Workload) Default() {
	if w.Metadata.Namespace == "" {
		w.Metadata.Namespace = DefaultNamespace
	}
	s := &w.Spec
	if s.Replicas == nil {
		one := 1
		s.Replicas = &one
	}
	job := false
	if s.Wasm != nil {
		if s.Wasm.Mode == "" {
			s.Wasm.Mode = ModeHTTP
		}
		if s.Wasm.Mode == ModeHTTP && s.Wasm.Timeout == 0 {
			s.Wasm.Timeout = Duration(DefaultHTTPTimeout)
		}
		job = s.Wasm.Mode == ModeJob
	}
	if s.Container != nil && s.Container.Network == "" {
		s.Container.Network = "bridge"
	}
	for i := range s.Ports {
		defaultPort(&s.Ports[i])
	}
	for i := range s.Buckets {
		if s.Buckets[i].Access == "" {
			s.Buckets[i].Access = AccessReadOnly
		}
	}
	for i, h := range s.Hosts {
		s.Hosts[i] = strings.ToLower(h)
	}
	defaultRestart(&s.Restart, job)
	defaultProbe(s.Probes.Readiness, time.Second)
	defaultProbe(s.Probes.Liveness, 5*time.Second)
	for i := range s.Placement.Affinity {
		if s.Placement.Affinity[i].Weight == 0 {
			s.Placement.Affinity[i].Weight = 50
		}
	}
	if s.OnDisconnect == "" {
		s.OnDisconnect = "keep"
	}
}

func defaultPort(p *Port) {
	if p.Protocol == "" {
		p.Protocol = ProtocolHTTP
	}
	if p.Name == "" {
		p.Name = p.Protocol
	}
	if p.Protocol == ProtocolTCP && p.Publish == 0 {
		p.Publish = p.Port
	}
}

func defaultRestart(r *Restart, job bool) {
	if r.Policy == "" {
		r.Policy = RestartAlways
		if job {
			r.Policy = RestartOnFailure
		}
	}
	if r.Backoff == 0 {
		r.Backoff = Duration(time.Second)
	}
	if r.MaxBackoff == 0 {
		r.MaxBackoff = max(Duration(time.Minute), r.Backoff)
	}
}

func defaultProbe(p *Probe, interval time.Duration) {
	if p == nil {
		return
	}
	if p.Interval == 0 {
		p.Interval = Duration(interval)
	}
	if p.Timeout == 0 {
		p.Timeout = Duration(time.Second)
	}
	if p.Failures == 0 {
		p.Failures = 3
	}
}
