;; Traps in its start section.
(module (func $f unreachable) (start $f) (func (export "cl_handle")))
