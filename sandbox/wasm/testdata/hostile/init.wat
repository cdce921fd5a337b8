;; Puts a data segment into memory for ever.
(module (memory (export "memory") 1) (data $d "0123456789abcdef0123456789abcdef")
  (func (export "cl_handle") (loop $l (memory.init $d (i32.const 0) (i32.const 0) (i32.const 32)) (br $l))))
