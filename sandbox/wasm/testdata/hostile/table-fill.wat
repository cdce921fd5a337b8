;; Fills, copies and searches a table for ever.
(module (table $t 100000 funcref)
  (func (export "cl_handle") (loop $l
    (table.fill $t (i32.const 0) (ref.null func) (i32.const 100000))
    (table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 99999)) (br $l))))
