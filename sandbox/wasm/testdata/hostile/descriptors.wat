;; Opens, renumbers and closes every descriptor that could be, and tells how many calls succeeded.
(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "../../etc/passwd")
  (func (export "cl_handle") (local $n i32) (local $ok i32)
    (local.set $n (i32.const 3))
    (loop $l
      (local.set $ok (i32.add (local.get $ok) (i32.eqz (call $open (local.get $n) (i32.const 1) (i32.const 0) (i32.const 16) (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 64)))))
      (local.set $ok (i32.add (local.get $ok) (i32.eqz (call $renumber (i32.const 1) (local.get $n)))))
      (local.set $ok (i32.add (local.get $ok) (i32.eqz (call $accept (local.get $n) (i32.const 0) (i32.const 64)))))
      (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 5000))))
    (i32.store (i32.const 64) (local.get $ok))
    (drop (call $write (i32.const 64) (i32.const 4)))))
