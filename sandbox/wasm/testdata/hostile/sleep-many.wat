;; Sleeps on 1300 clocks at once, all for an hour.
(module (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (func (export "cl_handle") (local $at i32)
    (loop $l
      (i32.store offset=16 (local.get $at) (i32.const 1)) (i64.store offset=24 (local.get $at) (i64.const 3600000000000))
      (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 48))) (i32.const 62400))))
    (drop (call $poll (i32.const 0) (i32.const 65536) (i32.const 1300) (i32.const 200000)))))
