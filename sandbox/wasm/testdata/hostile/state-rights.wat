;; Tells what it finds in the rights of its standard output, which it gives up, and changes it.
(module
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_set_rights" (func $rights (param i32 i64 i64) (result i32)))
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 1)
  (func (export "cl_handle")
    (drop (call $stat (i32.const 1) (i32.const 64)))
    (call $answer (i32.ne (i64.eqz (i64.load (i32.const 72))) (i32.const 1)))
    (drop (call $rights (i32.const 1) (i64.const 0) (i64.const 0)))))
