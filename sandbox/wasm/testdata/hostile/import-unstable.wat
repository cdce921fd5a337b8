;; Imports a function of a WASI that is not preview 1.
(module (import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32))) (func (export "cl_handle")))
