package api

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// signatureOf is the text of a signature that is n bytes long and right in its form.
func signatureOf(n int) string {
	text := func(comment string) string {
		return untrustedPrefix + "signed\n" + keyText("ED", 64) + "\n" + trustedPrefix + comment + "\n" +
			base64.StdEncoding.EncodeToString(make([]byte, 64)) + "\n"
	}
	return text(letters(n - len(text(""))))
}

// keyText is a key, or a signature of a file, of algorithm and id 7.
func keyText(algorithm string, size int) string {
	return base64.StdEncoding.EncodeToString(append([]byte(algorithm+"\x07\x00\x00\x00\x00\x00\x00\x00"), make([]byte, size)...))
}

func TestSignaturesAreRead(t *testing.T) {
	good := signatureOf(400)
	for name, text := range map[string]string{"as minisign writes it": good, "with CR": strings.ReplaceAll(good, "\n", "\r\n"), "without its last end of line": strings.TrimSpace(good)} {
		s, err := ParseSignature(text)
		if err != nil || s.KeyID != 7 || !s.Hashed || strings.Trim(s.TrustedComment, "a") != "" || s.TrustedComment == "" {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if s, err := ParseSignature(strings.Replace(good, keyText("ED", 64), keyText("Ed", 64), 1)); err != nil || s.Hashed {
		t.Errorf("a signature of the whole file: %+v, %v", s, err)
	}
	lines := strings.Split(strings.TrimSpace(good), "\n")
	change := func(i int, line string) string {
		l := slices.Clone(lines)
		l[i] = line
		return strings.Join(l, "\n")
	}
	for name, text := range map[string]string{
		"nothing": "", "a path": "hello.wasm.minisig", "three lines": strings.Join(lines[:3], "\n"), "five lines": good + "more\n",
		"no untrusted comment": change(0, "comment"), "no trusted comment": change(2, "comment: x"), "no base64": change(1, "!"), "a short file signature": change(1, keyText("ED", 63)),
		"a long file signature": change(1, keyText("ED", 65)), "another algorithm": change(1, keyText("RS", 64)), "no base64 at the end": change(3, "!"), "a short comment signature": change(3, "AAAA"),
	} {
		if s, err := ParseSignature(text); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// What is read as a signature or a key has all its parts, whatever the text was.
func FuzzSignature(f *testing.F) {
	f.Add(signatureOf(300))
	f.Add(keyText("Ed", 32))
	f.Add(strings.ReplaceAll(signatureOf(300), "\n", "\r\n"))
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseSignature(text); err == nil && (len(text) > MaxSignatureBytes || strings.ContainsAny(s.TrustedComment, "\n")) {
			t.Errorf("%q became %+v", text, s)
		}
		if k, err := ParsePublicKey(text); err == nil && len(k.Key) != 32 {
			t.Errorf("%q became a key of %d bytes", text, len(k.Key))
		}
	})
}

func TestPolicyLimits(t *testing.T) {
	keys := func(n int) []string {
		return many(n, func(i int) string {
			return base64.StdEncoding.EncodeToString(append([]byte("Ed"), append(make([]byte, 39), byte(i))...))
		})
	}
	for n, ok := range map[int]bool{0: false, 1: true, MaxSigners: true, MaxSigners + 1: false} {
		p := NamespacePolicy{Namespace: "prod", RequireSignature: keys(n)}
		if errs := p.Validate(); (len(errs) == 0) != ok {
			t.Errorf("%d keys: %v", n, errs)
		}
	}
	for path, p := range map[string]NamespacePolicy{
		"namespace":           {Namespace: "Prod", RequireSignature: keys(1)},
		"requireSignature[1]": {Namespace: "prod", RequireSignature: slices.Concat(keys(1), keys(1))},
		"requireSignature[0]": {Namespace: "prod", RequireSignature: []string{keyText("ED", 32)}},
	} {
		if errs := p.Validate(); len(errs) != 1 || errs[0].Path != path {
			t.Errorf("%s: %v", path, errs)
		}
	}
}

func TestWhatAPolicyRefusesByTheManifestAlone(t *testing.T) {
	p := NamespacePolicy{Namespace: "prod", RequireSignature: []string{keyText("Ed", 32)}}
	signed := WorkloadSpec{Wasm: &WasmSpec{Signature: signatureOf(300)}}
	unsigned, image := WorkloadSpec{Wasm: &WasmSpec{}}, WorkloadSpec{Container: &ContainerSpec{}}
	both := WorkloadSpec{Wasm: signed.Wasm, Container: image.Container}
	for want, s := range map[string]*WorkloadSpec{"has no signature": &unsigned, "an image cannot be signed": &image, "an image cannot": &both} {
		if err := p.Refuses(s); err == nil || err.Code != CodeForbidden || err.Hint == "" || !strings.Contains(err.Message, want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if err := (&NamespacePolicy{}).Refuses(s); err != nil {
			t.Errorf("without a policy: %v", err)
		}
	}
	if err := p.Refuses(&signed); err != nil {
		t.Error(err)
	}
}

// Each thing that a manifest can ask for beyond computing is a grant: taken out of an old version, it
// is what the new one asks for beyond it; and a version never asks for more than itself, or than one
// that has more.
func TestEachGrantIsToldWhenItIsNew(t *testing.T) {
	plain := func() *Workload { return wasmWorkload(nil) }
	image := func() *Workload { return containerWorkload(nil) }
	for want, tt := range map[string]struct {
		base   func() *Workload
		change func(*WorkloadSpec)
	}{
		"spec.wasm.interface: wagi":                 {plain, func(s *WorkloadSpec) { s.Wasm.Interface = "wagi" }},
		"spec.wasm.isolation: instance":             {plain, func(s *WorkloadSpec) { s.Wasm.Isolation = IsolationInstance }},
		"spec.container":                            {plain, func(s *WorkloadSpec) { s.Container = &ContainerSpec{Image: "x"} }},
		"spec.container.runAsRoot":                  {image, func(s *WorkloadSpec) { s.Container.RunAsRoot = true }},
		"spec.container.writableRoot":               {image, func(s *WorkloadSpec) { s.Container.WritableRoot = true }},
		"spec.container.capabilities: NET_ADMIN":    {image, func(s *WorkloadSpec) { s.Container.Capabilities = []string{"NET_ADMIN"} }},
		"spec.container.network: host":              {image, func(s *WorkloadSpec) { s.Container.Network = "host" }},
		"spec.secrets: key as API_KEY":              {plain, func(s *WorkloadSpec) { s.Secrets = []SecretRef{{"key", "API_KEY"}} }},
		"spec.ports: http 80":                       {image, func(s *WorkloadSpec) { s.Ports = []Port{{"a", 80, ProtocolHTTP, 0}} }},
		"spec.ports: tcp 80, published as 81":       {image, func(s *WorkloadSpec) { s.Ports = []Port{{"a", 80, ProtocolTCP, 81}} }},
		"spec.hosts: a.example":                     {plain, func(s *WorkloadSpec) { s.Hosts = []string{"a.example"} }},
		"spec.volumes: volume data at /d, to write": {plain, func(s *WorkloadSpec) { s.Volumes = []Volume{{Name: "data", Path: "/d"}} }},
		"spec.volumes: bucket b at /d, to read":     {plain, func(s *WorkloadSpec) { s.Volumes = []Volume{{Bucket: "b", Path: "/d", ReadOnly: true}} }},
		"spec.buckets: b to read":                   {plain, func(s *WorkloadSpec) { s.Buckets = []BucketGrant{{"b", AccessReadOnly}} }},
		"spec.buckets: b to write":                  {plain, func(s *WorkloadSpec) { s.Buckets = []BucketGrant{{"b", AccessReadWrite}} }},
		"spec.egress.allow: a.example:443":          {plain, func(s *WorkloadSpec) { s.Egress = &Egress{[]string{"a.example:443"}} }},
		"spec.resources.memory: 128Mi (was 64Mi)":   {plain, func(s *WorkloadSpec) { s.Resources.Memory = 128 << 20 }},
		"spec.resources.memory: 512Mi (was 256Mi)":  {image, func(s *WorkloadSpec) { s.Resources.Memory = 512 << 20 }},
		"spec.resources.cpu: 51m (was 50m)":         {plain, func(s *WorkloadSpec) { s.Resources.CPU = 51 }},
		"spec.resources.storage: 1Gi (was 0)":       {plain, func(s *WorkloadSpec) { s.Resources.Storage = 1 << 30 }},
		"spec.wasm.signature: key 7":                {plain, func(s *WorkloadSpec) { s.Wasm.Signature = signatureOf(300) }},
	} {
		old, now := tt.base().Spec, tt.base().Spec
		tt.change(&now)
		more := Beyond(&old, &now)
		if len(more) != 1 || more[0].String() != want {
			t.Errorf("want %q, got %v", want, more)
		}
		if more := Beyond(&now, &now); len(more) > 0 {
			t.Errorf("%s: beyond itself: %v", want, more)
		}
		if less := Beyond(&now, &old); len(less) > 0 && !strings.HasPrefix(want, "spec.wasm.signature") {
			t.Errorf("%s: less asks for more: %v", want, less)
		}
	}
}

func TestGrantsOfANewWorkloadAndOfAnotherSigner(t *testing.T) {
	s := wasmWorkload(func(w *Workload) {
		w.Spec.Egress = &Egress{[]string{"b.example:443", "a.example:443"}}
		w.Spec.Wasm.Signature = signatureOf(300)
	}).Spec
	if got := fmt.Sprint(Beyond(nil, &s)); got != "[spec.egress.allow: b.example:443 spec.egress.allow: a.example:443 spec.wasm.signature: key 7]" {
		t.Error(got)
	}
	unsigned := *s.Wasm
	unsigned.Signature = ""
	now := s
	now.Wasm = &unsigned
	if got := fmt.Sprint(Beyond(&s, &now)); got != "[spec.wasm.signature: none (was key 7)]" {
		t.Error(got)
	}
}
