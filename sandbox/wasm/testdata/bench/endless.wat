;; Never answers, in the way that the path's first letter says: "GET /loop", /chain, /recursion, /fill, /sleep.
(module
  (import "cl" "req_head" (func $head (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (func $loop (loop $again (br $again)))
  ;; 2^n calls
  (func $chain (param $n i32)
    (if (local.get $n) (then
      (call $chain (i32.sub (local.get $n) (i32.const 1)))
      (call $chain (i32.sub (local.get $n) (i32.const 1))))))
  (func $recursion (param $n i32) (result i32)
    (i32.add (call $recursion (i32.add (local.get $n) (i32.const 1))) (local.get $n)))
  (func $fill (loop $again
    (memory.fill (i32.const 65536) (i32.const 1) (i32.const 983040))
    (br $again)))
  (func $sleep
    (i32.store (i32.const 16) (i32.const 1)) ;; the monotonic clock
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))
  (func (export "cl_handle") (local $way i32)
    (drop (call $head (i32.const 1024) (i32.const 64)))
    (local.set $way (i32.load8_u (i32.const 1029)))
    (if (i32.eq (local.get $way) (i32.const 0x6c)) (then (call $loop)))
    (if (i32.eq (local.get $way) (i32.const 0x63)) (then (call $chain (i32.const 60))))
    (if (i32.eq (local.get $way) (i32.const 0x72)) (then (drop (call $recursion (i32.const 0)))))
    (if (i32.eq (local.get $way) (i32.const 0x66)) (then (call $fill)))
    (if (i32.eq (local.get $way) (i32.const 0x73)) (then (call $sleep)))))
