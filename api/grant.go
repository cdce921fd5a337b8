package api

import (
	"fmt"
	"slices"
	"strings"
)

// Grant is one thing that a workload may have or do beyond computing, named by the field of its
// manifest that asks for it.
type Grant struct {
	Field string `json:"field"`
	Value string `json:"value"`         // "" for a field that is only on or off
	Old   string `json:"old,omitempty"` // of Beyond: what an earlier version had in its place
}

// String is the grant on one line.
func (g Grant) String() string {
	s := g.Field
	if g.Value != "" {
		s += ": " + g.Value
	}
	if g.Old != "" {
		s += " (was " + g.Old + ")"
	}
	return s
}

// Grants lists what a spec asks for, in the order of the manifest's fields.
func Grants(s *WorkloadSpec) []Grant {
	var g grants
	if w := s.Wasm; w != nil {
		g.text("spec.wasm.interface", w.Interface)
		if w.Isolation == IsolationInstance { // the others leave nothing of one request for the next
			g.text("spec.wasm.isolation", w.Isolation)
		}
	}
	if c := s.Container; c != nil {
		g.flag("spec.container", true)
		g.flag("spec.container.runAsRoot", c.RunAsRoot)
		g.flag("spec.container.writableRoot", c.WritableRoot)
		for _, name := range c.Capabilities {
			g.text("spec.container.capabilities", name)
		}
		if c.Network == "host" {
			g.text("spec.container.network", c.Network)
		}
	}
	for _, ref := range s.Secrets {
		g.text("spec.secrets", ref.Name+" as "+ref.Env)
	}
	for _, p := range s.Ports {
		g.text("spec.ports", describePort(p))
	}
	for _, h := range s.Hosts {
		g.text("spec.hosts", h)
	}
	for _, v := range s.Volumes {
		g.text("spec.volumes", describeVolume(v))
	}
	for _, b := range s.Buckets {
		g.text("spec.buckets", b.Bucket+" "+accessWords(b.Access))
	}
	if s.Egress != nil {
		for _, rule := range s.Egress.Allow {
			g.text("spec.egress.allow", rule)
		}
	}
	return g
}

type grants []Grant

func (g *grants) text(field, value string) {
	if value != "" {
		*g = append(*g, Grant{Field: field, Value: value})
	}
}

func (g *grants) flag(field string, on bool) {
	if on {
		*g = append(*g, Grant{Field: field})
	}
}

func describePort(p Port) string {
	if p.Protocol == ProtocolTCP {
		return fmt.Sprintf("tcp %d, published as %d", p.Port, p.Publish)
	}
	return fmt.Sprintf("http %d", p.Port)
}

func describeVolume(v Volume) string {
	what, how := "bucket "+v.Bucket, AccessReadWrite
	if v.Bucket == "" {
		what = strings.TrimSpace("volume " + v.Name)
	}
	if v.ReadOnly {
		how = AccessReadOnly
	}
	return fmt.Sprintf("%s at %s, %s", what, v.Path, accessWords(how))
}

func accessWords(access string) string {
	if access == AccessReadWrite {
		return "to write"
	}
	return "to read"
}

// Beyond lists what now asks for and old did not have: grants that are new, larger resources, and
// another signer. An old of nil had nothing, and no resources to compare with.
func Beyond(old, now *WorkloadSpec) []Grant {
	if old == nil {
		return append(Grants(now), signer("", signerOf(now))...)
	}
	had := Grants(old)
	var more []Grant
	for _, g := range Grants(now) {
		if !slices.Contains(had, g) {
			more = append(more, g)
		}
	}
	for _, v := range []Variant{VariantWasm, VariantContainer} {
		if old.Has(v) && now.Has(v) {
			more = append(more, larger(old.Reserve(v), now.Reserve(v))...)
			break // what both variants name is the same field
		}
	}
	return append(more, signer(signerOf(old), signerOf(now))...)
}

func larger(old, now Reserved) (more []Grant) {
	if now.CPU > old.CPU {
		more = append(more, Grant{"spec.resources.cpu", now.CPU.String(), old.CPU.String()})
	}
	if now.Memory > old.Memory {
		more = append(more, Grant{"spec.resources.memory", now.Memory.String(), old.Memory.String()})
	}
	if now.Storage > old.Storage {
		more = append(more, Grant{"spec.resources.storage", now.Storage.String(), old.Storage.String()})
	}
	return more
}

// signer is a grant where a new version is trusted for the sake of another key, or of none at all.
func signer(old, now string) []Grant {
	switch {
	case old == now:
		return nil
	case now == "":
		now = "none"
	}
	return []Grant{{"spec.wasm.signature", now, old}}
}

// signerOf names the key that a spec's signature says it is by; only a check against the module tells
// whether it is.
func signerOf(s *WorkloadSpec) string {
	if s.Wasm == nil || s.Wasm.Signature == "" {
		return ""
	}
	sig, err := ParseSignature(s.Wasm.Signature)
	if err != nil {
		return "unreadable"
	}
	return "key " + KeyName(sig.KeyID)
}
