;; Its cl_handle wants an argument.
(module (func (export "cl_handle") (param i32)))
