;; Wants a page more than its replica may have.
(module (memory (export "memory") 1025) (func (export "cl_handle")))
