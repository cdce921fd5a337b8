;; Calls past the end of its table.
(module (type $t (func)) (table 10 funcref) (func (export "cl_handle") (call_indirect (type $t) (i32.const -1))))
