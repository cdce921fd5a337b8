;; Accepts connections on descriptor 3 and answers with what is no HTTP.
(module
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "\40\00\00\00\40\00\00\00")
  (data (i32.const 64) "SSH-2.0-no\r\n")
  (func (export "_start") (local $fd i32)
    (loop $next
      (drop (call $accept (i32.const 3) (i32.const 0) (i32.const 0)))
      (local.set $fd (i32.load (i32.const 0)))
      (drop (call $send (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 0) (i32.const 24))) (drop (call $close (local.get $fd)))
      (br $next))))
