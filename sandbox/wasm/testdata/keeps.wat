;; Opens a file in _initialize, and answers each request with its first byte.
(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "file")
  (data (i32.const 32) "\40\00\00\00\01\00\00\00") ;; a buffer of one byte at 64
  (func (export "_initialize")
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 48))))
  (func (export "cl_handle")
    (drop (call $pread (i32.load (i32.const 48)) (i32.const 32) (i32.const 1) (i64.const 0) (i32.const 56)))
    (drop (call $write (i32.const 64) (i32.load (i32.const 56))))))
