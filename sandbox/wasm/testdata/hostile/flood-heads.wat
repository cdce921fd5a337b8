;; Reads the request's head for ever.
(module (import "cl" "req_head" (func $head (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "cl_handle") (loop $l (drop (call $head (i32.const 0) (i32.const 65536))) (br $l))))
