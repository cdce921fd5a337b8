;; Tells what it finds in the size of its table, and changes it.
(module
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 1) (table $t 1 funcref)
  (func (export "cl_handle") (call $answer (table.size $t)) (drop (table.grow $t (ref.null func) (i32.const 5)))))
