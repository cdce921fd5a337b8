package cli

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/cloudless/cloudless/api"
)

// A key and a signature of the real minisign.
const (
	signerKey     = "RWSnjAj6nj5yu6HxQKT7kwi+7I+/kB9TGf7wempgJmo8UIFBMXNgaFPT"
	publicKeyFile = "untrusted comment: minisign public key BB723E9EFA088CA7\n" + signerKey + "\n"
	signatureFile = "untrusted comment: signature from minisign secret key\n" +
		"RUSnjAj6nj5yu1y1wBirtaAp3Efs2RXfoILvU8t3EnHcaLA8Bpef47yS0eEa4YYs0snFrQPY1Cvh7GE98p78335j3AixdQE8DQk=\n" +
		"trusted comment: trusted\n" +
		"WQil0z7aYaebItAtjr7Z+SIZftUkvdiLjIi/gwuuTAej9hAFjBCNbgvv8dwP49hjOw3RQb7KajEbMcB/wYVABw==\n"
)

// The signature is the one named, or the one beside the module; in a manifest a path is relative to it.
func TestSignaturesAreFoundAndRead(t *testing.T) {
	s := newSession(t)
	unsigned, signed := s.file("plain.wasm", module), s.file("hello.wasm", module)
	s.file("hello.wasm.minisig", signatureFile)
	elsewhere := s.file("other.minisig", signatureFile)
	junk := s.file("junk.minisig", "junk")
	has := func(name, want string) {
		t.Helper()
		if got := s.api.workloads["default/"+name].Spec.Wasm.Signature; got != want {
			t.Errorf("%s has the signature %q", name, got)
		}
	}
	s.want(0, "workload plain created\n", "", "run", unsigned)
	has("plain", "")
	s.want(0, "workload hello created\n", "", "run", signed)
	has("hello", signatureFile)
	s.want(0, "workload named created\n", "", "run", unsigned, "--name", "named", "--signature", elsewhere)
	has("named", signatureFile)
	s.want(2, "", "is not the text of a .minisig file", "run", unsigned, "--signature", junk)
	s.want(2, "", "no such file", "run", unsigned, "--signature", junk+"x")
	s.want(2, "", "is for modules", "run", "registry.example/app:1", "--signature", elsewhere)

	manifest := func(name, wasm string) string {
		return s.file(name+".yaml", "apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: "+name+"}\nspec: {wasm: {"+wasm+"}}\n")
	}
	s.want(0, "workload beside created\n", "", "apply", "-f", manifest("beside", "module: hello.wasm"))
	has("beside", signatureFile)
	s.want(0, "workload path created\n", "", "apply", "-f", manifest("path", "module: plain.wasm, signature: other.minisig"))
	has("path", signatureFile)
	text, _ := json.Marshal(signatureFile)
	s.want(0, "workload text created\n", "", "apply", "-f", manifest("text", "module: plain.wasm, signature: "+string(text)))
	has("text", signatureFile)
	s.want(2, "", "junk.minisig", "apply", "-f", manifest("wrong", "module: plain.wasm, signature: junk.minisig"))
}

func TestEgressOfARun(t *testing.T) {
	s := newSession(t)
	file := s.file("a.wasm", module)
	s.want(0, "workload a created\n", "", "run", file, "--egress", "api.example.com:443", "--egress", "10.0.0.0/8:5432")
	if got := s.api.workloads["default/a"].Spec.Egress.Allow; strings.Join(got, " ") != "api.example.com:443 10.0.0.0/8:5432" {
		t.Error(got)
	}
	s.want(2, "", "spec.egress.allow[0]", "run", file, "--egress", "api.example.com")
}

func TestNamespaces(t *testing.T) {
	s := newSession(t)
	var put []api.NamespacePolicy
	deleted := ""
	mux := s.api.mux
	mux.HandleFunc("GET /v1/namespaces", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, api.List[api.Namespace]{Items: []api.Namespace{{Name: "default", Workloads: 3}, {Name: "prod", Policy: &api.NamespacePolicy{Namespace: "prod", RequireSignature: []string{signerKey}}}}})
	})
	mux.HandleFunc("GET /v1/namespaces/{ns}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, api.Namespace{Name: r.PathValue("ns"), Workloads: 2})
	})
	mux.HandleFunc("PUT /v1/namespaces/{ns}/policy", func(w http.ResponseWriter, r *http.Request) {
		var p api.NamespacePolicy
		json.NewDecoder(r.Body).Decode(&p)
		put = append(put, p)
		answer(w, p)
	})
	mux.HandleFunc("DELETE /v1/namespaces/{ns}/policy", func(w http.ResponseWriter, r *http.Request) { deleted = r.PathValue("ns") })

	s.want(0, "NAME     WORKLOADS  SIGNED BY\ndefault  3          -\nprod     0          BB723E9EFA088CA7\n", "", "namespace", "list")
	s.want(0, "prod  2  -\n", "", "ns", "get", "prod", "--no-headers")
	s.want(0, "namespace prod runs modules only that one of 1 keys has signed\n", "", "namespace", "set", "prod", "--require-signature", signerKey)
	s.want(0, "prod\n", "", "namespace", "set", "prod", "--require-signature", s.file("k.pub", publicKeyFile), "-o", "name")
	for _, p := range put {
		if p.Namespace != "prod" || len(p.RequireSignature) != 1 || p.RequireSignature[0] != signerKey {
			t.Errorf("%+v", p)
		}
	}
	s.want(2, "", "names no key", "namespace", "set", "prod")
	s.want(2, "", "neither a public key", "namespace", "set", "prod", "--require-signature", "RWQ")
	s.want(2, "", "is not a public key", "namespace", "set", "prod", "--require-signature", s.file("junk.pub", "junk\n"))
	s.want(0, "namespace prod demands no signature any more\n", "", "namespace", "unset", "prod")
	if len(put) != 2 || deleted != "prod" {
		t.Errorf("put %+v, deleted %q", put, deleted)
	}
}
