;; Loops by a br_table that has only one way.
(module (func (export "cl_handle") (loop $l (br_table $l $l $l (i32.const 7)))))
