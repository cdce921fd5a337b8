;; 2^60 calls and no loop, in the start section.
(module
  (func $f (param i32) (if (local.get 0) (then
    (call $f (i32.sub (local.get 0) (i32.const 1))) (call $f (i32.sub (local.get 0) (i32.const 1))))))
  (func $s (call $f (i32.const 60)))
  (start $s) (func (export "cl_handle")))
