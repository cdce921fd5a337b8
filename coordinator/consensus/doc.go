// Package consensus keeps one log of commands the same on every coordinator. It is hashicorp/raft
// behind an interface of bytes: Propose appends a command, and every member applies it to its FSM
// in the same order.
//
// Nothing outside sees a type of the Raft library. The network is a listener and a Dial function
// that takes a member's id; the address that Raft knows of a member is its id too, so a member
// that restarts on another address stays the same member. The disk is a vfs.FS of Pebble, which
// holds the log and the vote (store.go) and the snapshots (snapshots.go), all below one folder.
package consensus
