;; Tells what it finds in a data segment that it drops, and changes it.
(module
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 1) (data $d "\01\00\00\00")
  (func (export "cl_handle") (memory.init $d (i32.const 8) (i32.const 0) (i32.const 4)) (call $answer (i32.load (i32.const 8))) (data.drop $d)))
