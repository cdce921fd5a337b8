;; Calls itself for ever in its start section.
(module (func $f (call $f)) (start $f) (func (export "cl_handle")))
