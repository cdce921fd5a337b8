;; Answers with the request: its head, an empty line, its body.
(module
  (import "cl" "req_head" (func $req_head (param i32 i32) (result i32)))
  (import "cl" "body_read" (func $read (param i32 i32) (result i32)))
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (import "cl" "flush" (func $flush))
  (memory (export "memory") 4)
  (data (i32.const 0) "\n")
  (func (export "cl_handle") (local $n i32)
    (local.set $n (call $req_head (i32.const 1024) (i32.const 0))) ;; how long is it?
    (drop (call $req_head (i32.const 1024) (local.get $n)))
    (drop (call $write (i32.const 1024) (local.get $n)))
    (drop (call $write (i32.const 0) (i32.const 1)))
    (call $flush)
    (block $end (loop $next
      (local.set $n (call $read (i32.const 1024) (i32.const 65536)))
      (br_if $end (i32.le_s (local.get $n) (i32.const 0)))
      (br_if $end (i32.lt_s (call $write (i32.const 1024) (local.get $n)) (i32.const 0)))
      (call $flush)
      (br $next)))))
