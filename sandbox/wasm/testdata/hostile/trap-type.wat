;; Calls a function by another type.
(module (type $t (func (param i64) (result i64))) (table 1 funcref) (elem (i32.const 0) $f)
  (func $f) (func (export "cl_handle") (drop (call_indirect (type $t) (i64.const 0x4141414141414141) (i32.const 0)))))
