;; Tells what it finds in its standard output, which it closes, and changes it.
(module
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 1)
  (func (export "cl_handle")
    (call $answer (i32.eqz (call $stat (i32.const 1) (i32.const 64))))
    (drop (call $renumber (i32.const 2) (i32.const 1))) (drop (call $close (i32.const 1)))))
