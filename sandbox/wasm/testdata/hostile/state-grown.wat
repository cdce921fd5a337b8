;; Tells what it finds in memory that it grows first, and changes it.
(module
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 1)
  (func (export "cl_handle") (drop (memory.grow (i32.const 2)))
    (call $answer (i32.add (i32.const 1) (i32.load (i32.const 131072)))) (i32.store (i32.const 131072) (i32.const 7))))
