;; Tells what it finds in a table of references, and changes it.
(module
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 1) (table $t 1 funcref) (elem declare func $f) (func $f)
  (func (export "cl_handle") (call $answer (ref.is_null (table.get $t (i32.const 0)))) (table.fill $t (i32.const 0) (ref.func $f) (i32.const 1))))
