;; Answers each request with hello.
(module
  (import "cl" "resp_head" (func $head (param i32 i32 i32) (result i32)))
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "content-type: text/plain\n")
  (data (i32.const 64) "hello\n")
  (func (export "cl_handle")
    (drop (call $head (i32.const 200) (i32.const 0) (i32.const 25)))
    (drop (call $write (i32.const 64) (i32.const 6)))))
