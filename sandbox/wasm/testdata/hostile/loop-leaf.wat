;; Loops over indirect calls of a function that is charged to its callers.
(module
  (type $t (func (result i32)))
  (table 1 funcref) (elem (i32.const 0) $leaf)
  (func $leaf (type $t) (i32.add (i32.const 1) (i32.const 2)))
  (func (export "cl_handle") (loop $l (drop (call_indirect (type $t) (i32.const 0))) (br $l))))
