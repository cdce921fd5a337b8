//go:build !race

package wasm

// leftOver is how much more memory the process may hold after an attack than before the first.
const leftOver = 16 << 20
