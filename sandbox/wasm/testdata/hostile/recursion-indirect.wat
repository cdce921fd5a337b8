;; Calls itself through a table, with a growing argument list.
(module
  (type $t (func (param i64 i64 i64 i64 i64 i64 i64 i64) (result i64)))
  (table 1 funcref) (elem (i32.const 0) $f)
  (func $f (type $t)
    (i64.add (local.get 7) (call_indirect (type $t) (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0) (i32.const 0))))
  (func (export "cl_handle")
    (drop (call $f (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)))))
