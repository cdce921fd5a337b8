;; Loops with values on the stack, in a function with results.
(module
  (func $f (param i64) (result i64 f32)
    (f32.const 0) (loop $l (param f32) (result i64 f32) (drop) (local.get 0) (f32.const 1) (local.set 0 (i64.const 2)) (drop) (drop) (f32.const 3) (br $l)))
  (func (export "cl_handle") (call $f (i64.const 1)) (drop) (drop)))
