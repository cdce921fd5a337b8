;; Tells what it finds in its memory, page by page, and changes it.
(module
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 8)
  (func (export "cl_handle") (local $at i32) (local $found i32)
    (local.set $at (i32.const 8))
    (loop $l
      (local.set $found (i32.or (local.get $found) (i32.load (local.get $at))))
      (i32.store (local.get $at) (i32.const 0x5ec7e7))
      (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 512))) (i32.const 524280))))
    (call $answer (i32.add (local.get $found) (i32.const 1)))))
