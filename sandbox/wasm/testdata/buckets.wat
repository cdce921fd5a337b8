;; Calls functions of buckets with the arguments that a request's body gives. The body is put at 1024: a
;; byte that counts the calls, then for each a byte that names the function and eight i64; from 4096 on it is
;; what the arguments point to. The answer is an i32 for each call, then the 4096 bytes from 65536 on.
(module
  (import "cl" "body_read" (func $body_read (param i32 i32) (result i32)))
  (import "cl" "body_write" (func $body_write (param i32 i32) (result i32)))
  (import "cl" "kv_get" (func $kv_get (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "cl" "kv_set" (func $kv_set (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "cl" "kv_delete" (func $kv_delete (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "cl" "kv_list" (func $kv_list (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "cl" "blob_open" (func $blob_open (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
  (import "cl" "blob_read" (func $blob_read (param i32 i32 i32) (result i32)))
  (import "cl" "blob_create" (func $blob_create (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "cl" "blob_write" (func $blob_write (param i32 i32 i32) (result i32)))
  (import "cl" "blob_commit" (func $blob_commit (param i32 i32) (result i32)))
  (import "cl" "blob_close" (func $blob_close (param i32) (result i32)))
  (import "cl" "blob_stat" (func $blob_stat (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 40)
  (func $long (param $at i32) (param $n i32) (result i64)
    (i64.load (i32.add (i32.add (local.get $at) (i32.const 1)) (i32.mul (local.get $n) (i32.const 8)))))
  (func $word (param $at i32) (param $n i32) (result i32) (i32.wrap_i64 (call $long (local.get $at) (local.get $n))))
  (func $is (param $at i32) (param $letter i32) (result i32) (i32.eq (i32.load8_u (local.get $at)) (local.get $letter)))
  (func $call (param $at i32) (result i32)
    (if (call $is (local.get $at) (i32.const 103)) ;; g
      (then (return (call $kv_get (call $word (local.get $at) (i32.const 0)) (call $word (local.get $at) (i32.const 1)) (call $word (local.get $at) (i32.const 2)) (call $word (local.get $at) (i32.const 3)) (call $word (local.get $at) (i32.const 4)) (call $word (local.get $at) (i32.const 5)) (call $word (local.get $at) (i32.const 6))))))
    (if (call $is (local.get $at) (i32.const 115)) ;; s
      (then (return (call $kv_set (call $word (local.get $at) (i32.const 0)) (call $word (local.get $at) (i32.const 1)) (call $word (local.get $at) (i32.const 2)) (call $word (local.get $at) (i32.const 3)) (call $word (local.get $at) (i32.const 4)) (call $word (local.get $at) (i32.const 5)) (call $word (local.get $at) (i32.const 6)) (call $word (local.get $at) (i32.const 7))))))
    (if (call $is (local.get $at) (i32.const 100)) ;; d
      (then (return (call $kv_delete (call $word (local.get $at) (i32.const 0)) (call $word (local.get $at) (i32.const 1)) (call $word (local.get $at) (i32.const 2)) (call $word (local.get $at) (i32.const 3)) (call $word (local.get $at) (i32.const 4)) (call $word (local.get $at) (i32.const 5))))))
    (if (call $is (local.get $at) (i32.const 108)) ;; l
      (then (return (call $kv_list (call $word (local.get $at) (i32.const 0)) (call $word (local.get $at) (i32.const 1)) (call $word (local.get $at) (i32.const 2)) (call $word (local.get $at) (i32.const 3)) (call $word (local.get $at) (i32.const 4)) (call $word (local.get $at) (i32.const 5)) (call $word (local.get $at) (i32.const 6)) (call $word (local.get $at) (i32.const 7))))))
    (if (call $is (local.get $at) (i32.const 111)) ;; o
      (then (return (call $blob_open (call $word (local.get $at) (i32.const 0)) (call $word (local.get $at) (i32.const 1)) (call $word (local.get $at) (i32.const 2)) (call $word (local.get $at) (i32.const 3)) (call $long (local.get $at) (i32.const 4)) (call $long (local.get $at) (i32.const 5)) (call $word (local.get $at) (i32.const 6))))))
    (if (call $is (local.get $at) (i32.const 114)) ;; r
      (then (return (call $blob_read (call $word (local.get $at) (i32.const 0)) (call $word (local.get $at) (i32.const 1)) (call $word (local.get $at) (i32.const 2))))))
    (if (call $is (local.get $at) (i32.const 99)) ;; c
      (then (return (call $blob_create (call $word (local.get $at) (i32.const 0)) (call $word (local.get $at) (i32.const 1)) (call $word (local.get $at) (i32.const 2)) (call $word (local.get $at) (i32.const 3)) (call $word (local.get $at) (i32.const 4)) (call $word (local.get $at) (i32.const 5))))))
    (if (call $is (local.get $at) (i32.const 119)) ;; w
      (then (return (call $blob_write (call $word (local.get $at) (i32.const 0)) (call $word (local.get $at) (i32.const 1)) (call $word (local.get $at) (i32.const 2))))))
    (if (call $is (local.get $at) (i32.const 107)) ;; k
      (then (return (call $blob_commit (call $word (local.get $at) (i32.const 0)) (call $word (local.get $at) (i32.const 1))))))
    (if (call $is (local.get $at) (i32.const 120)) ;; x
      (then (return (call $blob_close (call $word (local.get $at) (i32.const 0))))))
    (if (call $is (local.get $at) (i32.const 116)) ;; t
      (then (return (call $blob_stat (call $word (local.get $at) (i32.const 0)) (call $word (local.get $at) (i32.const 1)) (call $word (local.get $at) (i32.const 2)) (call $word (local.get $at) (i32.const 3)) (call $word (local.get $at) (i32.const 4))))))
    (unreachable))
  (func (export "cl_handle")
    (local $n i32) (local $i i32) (local $at i32)
    (local.set $at (i32.const 1024))
    (block $read
      (loop $more
        (local.set $n (call $body_read (local.get $at) (i32.const 60000)))
        (br_if $read (i32.le_s (local.get $n) (i32.const 0)))
        (local.set $at (i32.add (local.get $at) (local.get $n)))
        (br $more)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (i32.load8_u (i32.const 1024))))
        (i32.store (i32.const 0) (call $call (i32.add (i32.const 1025) (i32.mul (local.get $i) (i32.const 65)))))
        (drop (call $body_write (i32.const 0) (i32.const 4)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (drop (call $body_write (i32.const 65536) (i32.const 4096)))))
