;; Fails in _initialize.
(module
  (memory (export "memory") 1)
  (func $setup (export "_initialize") unreachable)
  (func (export "cl_handle")))
