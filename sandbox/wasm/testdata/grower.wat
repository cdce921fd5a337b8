;; Grows to 16 pages (1 MiB) in _initialize, and traps where that is more than it may have.
(module
  (memory (export "memory") 1)
  (func (export "_initialize")
    (if (i32.eq (memory.grow (i32.const 15)) (i32.const -1)) (then unreachable)))
  (func (export "cl_handle")))
