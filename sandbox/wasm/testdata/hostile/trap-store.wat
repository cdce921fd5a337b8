;; Writes one byte past the end of its memory.
(module (memory (export "memory") 1)
  (func (export "cl_handle") (i32.store16 (i32.const 65535) (i32.const 1))))
