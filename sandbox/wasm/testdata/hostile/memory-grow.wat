;; Grows its memory as far as it can, writes to all of it, and tells the pages it got.
(module (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "cl_handle") (local $at i32)
    (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (loop $l
      (i32.store (local.get $at) (i32.const 1))
      (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.mul (memory.size) (i32.const 65536)))))
    (i32.store (i32.const 0) (memory.size))
    (drop (call $write (i32.const 0) (i32.const 4)))))
