;; Asks for more memory than 32 bits can address, again and again, and tells the last answer.
(module (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "cl_handle") (local $n i32)
    (loop $l
      (drop (memory.grow (i32.const 0x7fffffff))) (drop (memory.grow (i32.const -1))) (drop (memory.grow (i32.const 65535)))
      (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 10000))))
    (i32.store (i32.const 0) (memory.grow (i32.const 0x10000)))
    (drop (call $write (i32.const 0) (i32.const 4)))))
