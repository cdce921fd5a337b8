;; Calls the host with pointers into a memory that it does not export.
(module (import "cl" "log" (func $log (param i32 i32 i32))) (memory 1)
  (func (export "cl_handle") (call $log (i32.const 0) (i32.const 0) (i32.const 1))))
