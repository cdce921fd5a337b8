;; Tells what it finds in a global, which it changes before it exits, and changes it.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 1) (global $g (mut i32) (i32.const 1))
  (func (export "cl_handle") (call $answer (global.get $g)) (global.set $g (i32.const 2)) (call $exit (i32.const 0))))
