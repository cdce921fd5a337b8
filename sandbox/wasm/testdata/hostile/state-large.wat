;; Tells what it finds in memory that it grows by more than an instance may keep, and changes it.
(module
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 1)
  (func (export "cl_handle") (call $answer (memory.size)) (drop (memory.grow (i32.const 64))) (memory.fill (i32.const 0) (i32.const 9) (i32.const 4194304))))
