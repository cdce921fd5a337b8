// Package bubble runs three real coordinators and ten real agents in one testing/synctest bubble: one
// process, a false clock, a network in memory (test/simnet) that can be cut and healed. Hours of
// partitions, crashes and restarts pass in seconds.
//
// Real are: the coordinators and agents whole, with Raft, Serf, TLS, HTTP/2, tunnels, Pebble, the
// ledger, the endpoint table, the ingress. Replaced are:
//
//   - The network. Listeners and dials come in through Config.Listener, Config.Ingress and
//     Config.NetDial, gossip through Config.GossipNet. A goroutine that waits on a socket is never idle
//     for a bubble, so its clock would stand still.
//   - The sandboxes. Config.Drivers gives agents sandbox/fake, whose replicas outlive their agent, as
//     containers do. wazero burns CPU, not time, and containerd is another process.
//   - The REST API. Echo serves people, and is tested with them; a test calls the methods of
//     coordinator.Server that web.Backend declares. cli/serve.go, which joins the two, opens sockets.
//   - The clock: it begins in the year 2000, and stands while anything computes. So nothing here says
//     how fast something is on a real machine.
//
// Not replaced are the disks: data folders are real folders, since a system call takes no time of the
// bubble's. A crash here cuts a process off and then closes it; what a power cut leaves of a disk is
// tested in coordinator/consensus and agent/ledger.
//
// A goroutine that waits for a sync.Mutex is not idle either. Whoever holds one while time passes
// stops the clock for good, so that the test hangs: that is a fault to mend where the lock is.
package bubble
