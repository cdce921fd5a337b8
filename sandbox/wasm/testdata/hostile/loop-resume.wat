;; Loops for ever in cl_resume, before each request.
(module (func (export "cl_resume") (loop $l (br $l))) (func (export "cl_handle")))
