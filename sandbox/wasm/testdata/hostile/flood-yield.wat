;; Yields, and asks for the time, for ever.
(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "cl_handle") (loop $l (drop (call $yield)) (drop (call $time (i32.const 0) (i64.const 0) (i32.const 8))) (br $l))))
