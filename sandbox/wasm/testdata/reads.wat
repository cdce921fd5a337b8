;; Answers each request with the file "greeting" of the first mount, and leaves it open.
(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "greeting")
  (func (export "cl_handle")
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 8) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32))
      (then unreachable))
    (if (i32.ne (i32.load (i32.const 32)) (i32.const 4)) (then unreachable)) ;; the first free descriptor, each time
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 4096))
    (if (call $read (i32.load (i32.const 32)) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
    (drop (call $write (i32.const 1024) (i32.load (i32.const 8))))))
