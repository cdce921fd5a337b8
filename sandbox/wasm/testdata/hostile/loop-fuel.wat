;; Has a global under the name of the fuel's, and fills it.
(module
  (global $fuel (export "cl:fuel") (mut i64) (i64.const 0))
  (global $stack (export "cl:stack") (mut i32) (i32.const 0))
  (func (export "cl_handle")
    (loop $l (global.set $fuel (i64.const 0x7fffffffffffffff)) (global.set $stack (i32.const 0x7fffffff)) (br $l))))
