// Package objects is what the coordinators know of the object store: buckets, objects, uploads, and of
// each chunk how often it is named and how many copies it is to have. The rows are in Pebble, not in
// memory, and change only by commands from the Raft log: Apply decides each command by the pure
// function Decide and writes the rows and the log's index in one batch, so that an entry is applied
// once, whatever happens between.
//
// Reading goes through a View, a snapshot of one moment. Nothing here knows where the chunks are or
// what time it is; times and ids are in the commands.
//
//	command.go   what may be asked for, and its bytes in the log
//	decide*.go   what then happens: pure
//	keys.go      row keys, which sort as lists do
//	rows.go      the bytes of rows
//	read.go      what rows say: pure
//	refs.go      which chunks rows name, and how many copies they ask for
//	group.go     chunks that are kept once each, with parity
//	list.go      pages of a bucket, by prefix and delimiter
//	expire.go    what has expired: pure
//	store.go     Pebble: Open, Apply, View
//	backup.go    all rows as a stream
package objects
