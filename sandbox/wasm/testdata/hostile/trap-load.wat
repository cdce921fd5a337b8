;; Reads past the end of its memory with an offset that overflows.
(module (memory (export "memory") 1)
  (func (export "cl_handle") (drop (i64.load offset=0xffffffff (i32.const -1)))))
