;; Imports the function by which it is metered.
(module (import "cl" "tick" (func $tick)) (func (export "cl_handle") (call $tick)))
