;; Answers without end, and does not care whether anybody takes it.
(module (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 16)
  (func (export "cl_handle") (loop $l (drop (call $write (i32.const 0) (i32.const 1048576))) (br $l))))
