;; Polls counts whose bytes overflow 32 bits, and none; tells the sum of the errors.
(module (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "cl_handle")
    (i32.store (i32.const 4096) (i32.add
      (i32.add (call $poll (i32.const 0) (i32.const 1024) (i32.const 0x05555556) (i32.const 2048))
               (call $poll (i32.const 0) (i32.const 1024) (i32.const 0x08000000) (i32.const 2048)))
      (i32.add (call $poll (i32.const 0) (i32.const 1024) (i32.const -1) (i32.const 2048))
               (call $poll (i32.const 0) (i32.const 1024) (i32.const 0) (i32.const 2048)))))
    (drop (call $write (i32.const 4096) (i32.const 4)))))
