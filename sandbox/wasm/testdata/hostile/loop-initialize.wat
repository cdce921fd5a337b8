;; Loops for ever in _initialize.
(module (func (export "_initialize") (loop $l (br $l))) (func (export "cl_handle")))
