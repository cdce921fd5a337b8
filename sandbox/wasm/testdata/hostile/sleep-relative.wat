;; Sleeps until the end of time, by a relative timeout.
(module (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "cl_handle")
    (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const -1)) (i32.store16 (i32.const 40) (i32.const 0))
    (loop $l (drop (call $poll (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 2048))) (br $l))))
