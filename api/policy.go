package api

import (
	"fmt"
	"slices"
)

// NamespacePolicy is what a namespace demands of what runs in it. Without one it demands nothing.
type NamespacePolicy struct {
	Namespace string `json:"namespace"`
	// RequireSignature lists public keys of minisign: each module must be signed by one of them.
	RequireSignature []string `json:"requireSignature"`
	CreateIndex      uint64   `json:"createIndex,omitempty"`
	ModifyIndex      uint64   `json:"modifyIndex,omitempty"`
}

// Namespace is one that has workloads or a policy.
type Namespace struct {
	Name      string           `json:"name"`
	Workloads int              `json:"workloads"`
	Policy    *NamespacePolicy `json:"policy,omitempty"`
}

// Validate returns everything that is wrong with a policy.
func (p *NamespacePolicy) Validate() FieldErrors {
	v := &validator{}
	v.name("namespace", p.Namespace)
	v.check(len(p.RequireSignature) > 0, "requireSignature", "names no key: a policy that demands nothing is deleted")
	v.check(len(p.RequireSignature) <= MaxSigners, "requireSignature", "has %d keys, at most %d are allowed", len(p.RequireSignature), MaxSigners)
	for i, text := range p.RequireSignature {
		path := fmt.Sprintf("requireSignature[%d]", i)
		if _, err := ParsePublicKey(text); err != nil {
			v.add(path, "%v", err)
		}
		v.check(slices.Index(p.RequireSignature, text) == i, path, "is there twice")
	}
	return v.errs
}

// Refuses is why a workload may not run under the policy, as far as its manifest tells; whether a
// signature is right only the module's bytes tell (internal/minisign). The zero policy refuses nothing.
func (p *NamespacePolicy) Refuses(s *WorkloadSpec) *Error {
	if len(p.RequireSignature) == 0 {
		return nil
	}
	if s.Container != nil || s.Wasm == nil {
		return Errorf(CodeForbidden, "namespace %s runs signed modules only, and an image cannot be signed here", p.Namespace).
			WithHint("take spec.container out, or use another namespace")
	}
	if s.Wasm.Signature == "" {
		return Errorf(CodeForbidden, "namespace %s runs signed modules only, and this one has no signature", p.Namespace).
			WithHint("sign it with 'minisign -Sm FILE.wasm' and give spec.wasm.signature; run and apply take FILE.wasm.minisig by themselves")
	}
	return nil
}

// signature checks the form of a signature; "" is none.
func (v *validator) signature(path, text string) {
	if text == "" {
		return
	}
	if _, err := ParseSignature(text); err != nil {
		v.add(path, "%v", err)
	}
}
