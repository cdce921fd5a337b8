;; Wants 128 MiB from the start, and declares that it may want 1 GiB.
(module (memory (export "memory") 2048 16384) (func (export "cl_handle")))
