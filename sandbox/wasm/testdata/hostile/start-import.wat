;; Its start section is a function of the host that needs a request.
(module (import "cl" "flush" (func $flush)) (memory (export "memory") 1) (start $flush) (func (export "cl_handle")))
