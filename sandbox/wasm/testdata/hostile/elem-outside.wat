;; Has elements that lie outside of its table.
(module (table 1 funcref) (elem (i32.const 1) $f) (func $f (export "cl_handle")))
