;; Loops for ever in its start section.
(module (func $f (loop $l (br $l))) (start $f) (func (export "cl_handle")))
