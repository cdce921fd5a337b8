;; Imports a function under another type.
(module
  (import "cl" "req_head" (func (param i64) (result i32)))
  (memory (export "memory") 1)
  (func (export "cl_handle")))
