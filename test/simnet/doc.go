// Package simnet is a network in memory for tests that run in a testing/synctest bubble: everything
// that waits in it waits on a channel, a timer or a sync.Cond, never on a socket.
//
// A Network has Hosts with an address each. A Host listens and dials like TCP (Listen, Dial), and
// gossips (Gossip). Between any two hosts, one direction at a time, the way can be Open, Drop what it
// is given, or Refuse it. A Host can crash: its connections are reset, and dials to it refused.
//
// What is as on a real network: a dial takes a round trip and then is in the listener's queue,
// accepted or not; what is written while the way drops it is sent again once the way is open; a
// writer waits when its peer does not read; deadlines, half-close and resets. What is simpler:
// acknowledgements are not modelled, so a way that drops things one way only does not slow the other;
// a way that is cut for long breaks no connection by itself.
package simnet
