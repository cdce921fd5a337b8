;; Calls one of the fetch functions with the arguments that a request's body gives: a byte that names
;; it, then three i32. The answer is the result.
(module
  (import "cl" "body_read" (func $body_read (param i32 i32) (result i32)))
  (import "cl" "body_write" (func $body_write (param i32 i32) (result i32)))
  (import "cl" "fetch_open" (func $open (param i32 i32) (result i32)))
  (import "cl" "fetch_write" (func $write (param i32 i32 i32) (result i32)))
  (import "cl" "fetch_head" (func $head (param i32 i32 i32) (result i32)))
  (import "cl" "fetch_read" (func $read (param i32 i32 i32) (result i32)))
  (import "cl" "fetch_close" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "GET https://example.com/\n")
  (func $is (param $letter i32) (result i32) (i32.eq (i32.load8_u (i32.const 1024)) (local.get $letter)))
  (func (export "cl_handle")
    (local $a i32) (local $b i32) (local $c i32) (local $n i32)
    (drop (call $body_read (i32.const 1024) (i32.const 13)))
    (local.set $a (i32.load (i32.const 1025)))
    (local.set $b (i32.load (i32.const 1029)))
    (local.set $c (i32.load (i32.const 1033)))
    (if (call $is (i32.const 0x6f)) (then (local.set $n (call $open (local.get $a) (local.get $b))))) ;; o
    (if (call $is (i32.const 0x77)) (then (local.set $n (call $write (local.get $a) (local.get $b) (local.get $c))))) ;; w
    (if (call $is (i32.const 0x68)) (then (local.set $n (call $head (local.get $a) (local.get $b) (local.get $c))))) ;; h
    (if (call $is (i32.const 0x72)) (then (local.set $n (call $read (local.get $a) (local.get $b) (local.get $c))))) ;; r
    (if (call $is (i32.const 0x63)) (then (local.set $n (call $close (local.get $a))))) ;; c
    (i32.store (i32.const 2048) (local.get $n))
    (drop (call $body_write (i32.const 2048) (i32.const 4)))))
