// Package api holds the nouns of Cloudless and the words they are spoken in: what a workload, a
// node, a replica and an event are, how they look as JSON, what makes them valid, and the messages
// that agents and coordinators exchange. It imports the standard library only, so that every other
// package, and any program outside, can use it.
//
// One noun a file. validate.go says what is accepted, limits.go how much of it, error.go how a
// refusal looks, wire.go what travels between nodes.
package api
