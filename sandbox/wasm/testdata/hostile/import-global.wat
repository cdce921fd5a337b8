;; Imports a global from the host's module.
(module (import "cl" "fuel" (global (mut i64))) (func (export "cl_handle")))
