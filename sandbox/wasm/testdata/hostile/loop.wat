;; Loops for ever.
(module (func (export "cl_handle") (loop $l (br $l))))
