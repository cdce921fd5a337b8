;; Tells what it finds in a vector global, and changes it.
(module
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 1) (global $g (mut v128) (v128.const i32x4 1 0 0 0))
  (func (export "cl_handle") (call $answer (i32x4.extract_lane 0 (global.get $g))) (global.set $g (v128.const i32x4 2 3 4 5))))
