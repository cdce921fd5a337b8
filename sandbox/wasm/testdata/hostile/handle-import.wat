;; Its cl_handle is a function of the host.
(module (import "cl" "flush" (func $flush)) (memory (export "memory") 1) (export "cl_handle" (func $flush)))
