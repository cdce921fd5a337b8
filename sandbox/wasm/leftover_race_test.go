//go:build race

package wasm

// leftOver is what it is without the race detector, and the memory in which that remembers who touched what:
// it never gives it back.
const leftOver = 256 << 20
