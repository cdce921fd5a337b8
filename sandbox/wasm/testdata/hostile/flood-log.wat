;; Logs all of its memory, 32 MiB, for ever.
(module (import "cl" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 512)
  (func (export "cl_handle") (loop $l (call $log (i32.const 3) (i32.const 0) (i32.const 33554432)) (br $l))))
