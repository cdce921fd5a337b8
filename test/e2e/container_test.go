package e2e

import "testing"

// withContainers gives every agent a containerd of its own.
func withContainers(int) []string { return []string{"--containerd", "private"} }

func TestBothKindsAreDeployed(t *testing.T) {
	k := newCluster(t, 3, 3, withContainers)
	k.cli.must("workload", "run", helloModule, "--name", "module", "--http", "--replicas", "3", "--wait", "--timeout", "60s")
	k.cli.must("workload", "run", helloImage, "--name", "image", "--replicas", "2", "--wait", "--timeout", "60s")
	k.settled("module", 3)
	k.settled("image", 2)
	for _, a := range k.agents {
		k.served(a, "module")
		k.served(a, "image") // two of three have it, the third sends on
	}
}
