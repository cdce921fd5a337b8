;; Grows its memory in the start section as far as it can and traps.
(module (memory (export "memory") 1)
  (func $s (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable)
  (start $s) (func (export "cl_handle")))
