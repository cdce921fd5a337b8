;; Tells what it finds in an entry of its table, and changes it.
(module
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 1) (table $t 1 funcref) (elem (i32.const 0) $f) (elem declare func $g) (type $r (func (result i32)))
  (func $f (result i32) (i32.const 1)) (func $g (result i32) (i32.const 2))
  (func (export "cl_handle") (call $answer (call_indirect (type $r) (i32.const 0))) (table.set $t (i32.const 0) (ref.func $g))))
