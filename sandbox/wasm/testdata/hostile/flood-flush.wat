;; Sends nothing, again and again.
(module (import "cl" "flush" (func $flush)) (memory (export "memory") 1)
  (func (export "cl_handle") (loop $l (call $flush) (br $l))))
