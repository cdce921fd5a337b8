;; Writes to other pages of its memory in each request, before and after it has waited and after it has computed for
;; long, and tells what it finds in all of them.
(module
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (import "cl" "body_read" (func $read (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (func $answer (param i32) (i32.store (i32.const 0) (local.get 0)) (drop (call $write (i32.const 0) (i32.const 4))))
  (memory (export "memory") 16)
  (func $mark (param $page i32)
    (i32.store offset=512 (i32.mul (local.get $page) (i32.const 4096)) (i32.const 0x5ec7e7)))
  (func (export "cl_handle") (local $at i32) (local $found i32)
    (loop $l
      (local.set $found (i32.or (local.get $found) (i32.load offset=512 (local.get $at))))
      (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.const 1048576))))
    (drop (call $random (i32.const 16) (i32.const 3)))
    (call $mark (i32.load8_u (i32.const 16)))
    (drop (call $read (i32.const 32) (i32.const 4)))
    (call $mark (i32.load8_u (i32.const 17)))
    (local.set $at (i32.const 1000000))
    (loop $l (br_if $l (local.tee $at (i32.sub (local.get $at) (i32.const 1)))))
    (call $mark (i32.load8_u (i32.const 18)))
    (call $answer (i32.add (local.get $found) (i32.const 1)))))
