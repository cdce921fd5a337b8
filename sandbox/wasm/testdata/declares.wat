;; Declares that it may want 1 GiB, and wants one page.
(module (memory (export "memory") 1 16384) (func (export "cl_handle")))
