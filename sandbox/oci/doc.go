// Package oci runs replicas as OCI containers under containerd.
//
// A Driver talks to the machine's own daemon or to a private one that it starts itself (daemon.go).
// Images come from a tarball of the cluster's store or from a registry (image.go); a container gets a
// hardened specification (spec.go), a network namespace of its own on a bridge, or the host's network
// (network.go), and a handle that follows its task until it ends (handle.go).
//
// Containers outlive the agent. Whatever belongs to one is found again by its id, which begins with
// the node's id, and by a folder under the data folder that is made before anything else of it and
// removed after everything else: what a crash leaves behind is found there and released (release.go).
package oci
