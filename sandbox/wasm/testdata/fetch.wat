;; Fetches what a request asks for. The request's body is the head of the fetch, an empty line, and its
;; body. The answer is the head that came, an empty line and the body that came; of a call that fails,
;; the name of the function and what it returned.
(module
  (import "cl" "body_read" (func $body_read (param i32 i32) (result i32)))
  (import "cl" "body_write" (func $body_write (param i32 i32) (result i32)))
  (import "cl" "fetch_open" (func $fetch_open (param i32 i32) (result i32)))
  (import "cl" "fetch_write" (func $fetch_write (param i32 i32 i32) (result i32)))
  (import "cl" "fetch_head" (func $fetch_head (param i32 i32 i32) (result i32)))
  (import "cl" "fetch_read" (func $fetch_read (param i32 i32 i32) (result i32)))
  (import "cl" "fetch_close" (func $fetch_close (param i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "open ")
  (data (i32.const 8) "write")
  (data (i32.const 16) "head ")
  (data (i32.const 24) "read ")
  (data (i32.const 32) "close")
  (global $in i32 (i32.const 4096))    ;; what is asked for, up to the second page
  (global $out i32 (i32.const 65536))  ;; what came, a page

  ;; Writes a function's name and a number.
  (func $say (param $name i32) (param $n i32)
    (local $at i32)
    (local.set $at (i32.const 127))
    (i32.store8 (local.get $at) (i32.const 10))
    (if (i32.lt_s (local.get $n) (i32.const 0))
      (then (i32.store8 (i32.const 100) (i32.const 45)) (local.set $n (i32.sub (i32.const 0) (local.get $n))))
      (else (i32.store8 (i32.const 100) (i32.const 43))))
    (loop $digits
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
      (local.set $n (i32.div_u (local.get $n) (i32.const 10)))
      (br_if $digits (local.get $n)))
    (drop (call $body_write (local.get $name) (i32.const 5)))
    (drop (call $body_write (i32.const 100) (i32.const 1)))
    (drop (call $body_write (local.get $at) (i32.sub (i32.const 128) (local.get $at)))))

  (func $read_all (result i32)
    (local $len i32) (local $n i32)
    (loop $more
      (local.set $n (call $body_read (i32.add (global.get $in) (local.get $len)) (i32.sub (i32.const 61440) (local.get $len))))
      (if (i32.gt_s (local.get $n) (i32.const 0))
        (then (local.set $len (i32.add (local.get $len) (local.get $n))) (br $more))))
    (local.get $len))

  ;; The length of the head: up to the empty line, or all.
  (func $head_of (param $len i32) (result i32)
    (local $at i32)
    (loop $more
      (if (i32.ge_u (i32.add (local.get $at) (i32.const 1)) (local.get $len)) (then (return (local.get $len))))
      (if (i32.eq (i32.load16_u (i32.add (global.get $in) (local.get $at))) (i32.const 0x0a0a))
        (then (return (i32.add (local.get $at) (i32.const 1)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $more))
    (unreachable))

  (func (export "cl_handle")
    (local $len i32) (local $head i32) (local $h i32) (local $n i32)
    (local.set $len (call $read_all))
    (local.set $head (call $head_of (local.get $len)))
    (local.set $h (call $fetch_open (global.get $in) (local.get $head)))
    (if (i32.lt_s (local.get $h) (i32.const 0)) (then (call $say (i32.const 0) (local.get $h)) (return)))
    (local.set $n (i32.sub (local.get $len) (i32.add (local.get $head) (i32.const 1))))
    (if (i32.gt_s (local.get $n) (i32.const 0)) (then
      (local.set $n (call $fetch_write (local.get $h) (i32.add (global.get $in) (i32.add (local.get $head) (i32.const 1))) (local.get $n)))
      (if (i32.lt_s (local.get $n) (i32.const 0)) (then (call $say (i32.const 8) (local.get $n))))))
    (local.set $n (call $fetch_head (local.get $h) (global.get $out) (i32.const 65536)))
    (if (i32.lt_s (local.get $n) (i32.const 0)) (then (call $say (i32.const 16) (local.get $n)) (return)))
    (drop (call $body_write (global.get $out) (local.get $n)))
    (i32.store8 (global.get $out) (i32.const 10))
    (drop (call $body_write (global.get $out) (i32.const 1)))
    (loop $more
      (local.set $n (call $fetch_read (local.get $h) (global.get $out) (i32.const 65536)))
      (if (i32.gt_s (local.get $n) (i32.const 0))
        (then (drop (call $body_write (global.get $out) (local.get $n))) (br $more))))
    (if (i32.lt_s (local.get $n) (i32.const 0)) (then (call $say (i32.const 24) (local.get $n))))
    (local.set $n (call $fetch_close (local.get $h)))
    (if (local.get $n) (then (call $say (i32.const 32) (local.get $n))))))
