;; Tells what it finds in globals of each type that it does not export, and changes it.
(module
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 1)
  (global $a (mut i64) (i64.const 0)) (global $b (mut f32) (f32.const 0)) (global $c (mut f64) (f64.const 1)) (global $d (mut funcref) (ref.null func))
  (func $f) (elem declare func $f)
  (func (export "cl_handle")
    (call $answer (i32.add (i32.add (i32.wrap_i64 (global.get $a)) (i32.trunc_f32_s (global.get $b))) (i32.add (i32.trunc_f64_s (global.get $c)) (i32.eqz (ref.is_null (global.get $d))))))
    (global.set $a (i64.const 10)) (global.set $b (f32.const 100)) (global.set $c (f64.const 1000)) (global.set $d (ref.func $f))))
