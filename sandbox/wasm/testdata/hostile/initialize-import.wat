;; Its _initialize is a function of the host that needs a request.
(module (import "cl" "flush" (func $flush)) (memory (export "memory") 1) (export "_initialize" (func $flush)) (func (export "cl_handle")))
