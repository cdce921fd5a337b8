;; Copies half of its memory to the other half for ever.
(module (memory (export "memory") 512)
  (func (export "cl_handle") (loop $l (memory.copy (i32.const 16777216) (i32.const 0) (i32.const 16777216)) (br $l))))
