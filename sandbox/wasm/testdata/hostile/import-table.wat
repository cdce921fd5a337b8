;; Imports a table from the host's module.
(module (import "cl" "table" (table 1 funcref)) (func (export "cl_handle")))
