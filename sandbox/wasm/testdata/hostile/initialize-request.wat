;; Answers a request before there is one.
(module (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_initialize") (drop (call $write (i32.const 0) (i32.const 1)))) (func (export "cl_handle")))
