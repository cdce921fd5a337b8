package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// A module, a key, and what the real minisign signed with it.
const (
	signedModule = "hello\n"
	signerKey    = "RWSnjAj6nj5yu6HxQKT7kwi+7I+/kB9TGf7wempgJmo8UIFBMXNgaFPT"
	signature    = "untrusted comment: signature from minisign secret key\n" +
		"RUSnjAj6nj5yu1y1wBirtaAp3Efs2RXfoILvU8t3EnHcaLA8Bpef47yS0eEa4YYs0snFrQPY1Cvh7GE98p78335j3AixdQE8DQk=\n" +
		"trusted comment: trusted\n" +
		"WQil0z7aYaebItAtjr7Z+SIZftUkvdiLjIi/gwuuTAej9hAFjBCNbgvv8dwP49hjOw3RQb7KajEbMcB/wYVABw==\n"
)

// Security 17: a node holds every start to the policy that it heard of last, over its file of the
// module. (That the set outlives a restart is TestLifeWithoutCoordinators.)
func TestANodeHoldsEveryStartToThePolicy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "module")
	sum := sha256.Sum256([]byte(signedModule))
	spec := func(sig string) *api.WorkloadSpec {
		return &api.WorkloadSpec{Wasm: &api.WasmSpec{Module: "sha256:" + hex.EncodeToString(sum[:]), Signature: sig}}
	}
	set := func(generation uint64, policies ...api.NamespacePolicy) *api.AssignmentSet {
		return &api.AssignmentSet{Epoch: 1, Generation: generation, Policies: policies}
	}
	demand := api.NamespacePolicy{Namespace: "prod", RequireSignature: []string{signerKey}}
	a := &Agent{}
	a.intake = newIntake(a, nil, time.Now())
	admit := func(ns, sig string) error {
		return a.admit(api.Assignment{Workload: api.Ref{Namespace: ns, Name: "web"}}, spec(sig), path)
	}
	wants := func(when, ns, sig, want string) {
		t.Helper()
		if err := admit(ns, sig); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s, namespace %s: %v, want %q", when, ns, err, want)
		}
	}
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(signedModule)
	wants("before any set", "prod", "", "")
	a.intake.set = set(1, demand)
	wants("with a policy", "prod", "", "no signature")
	wants("with a policy", "prod", signature, "")
	wants("of another namespace", "default", "", "")
	wants("changed comment", "prod", strings.Replace(signature, "trusted comment: trusted", "trusted comment: trustee", 1), "trusted comment")
	write("hallo\n")
	wants("changed on the disk", "prod", signature, "bytes are not those")
	write(signedModule)
	a.intake.set = set(2)
	wants("after the policy was taken back", "prod", "", "")
}
