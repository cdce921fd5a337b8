;; Accepts connections on descriptor 3, one at a time, and answers one request of up to 4 KiB on each. GET /x exits with code 4, GET /l loops, GET /n gives the number of requests.
(module
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_recv" (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (global $n (mut i32) (i32.const 0))
  (data (i32.const 64) "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n0")
  (func (export "_start") (local $fd i32) (local $path i32)
    (i32.store (i32.const 8) (i32.const 4096))  ;; where to read
    (i32.store (i32.const 12) (i32.const 4096))
    (i32.store (i32.const 16) (i32.const 64))   ;; what to write
    (i32.store (i32.const 20) (i32.const 58))
    (loop $next
      (if (call $accept (i32.const 3) (i32.const 0) (i32.const 0)) (then (call $exit (i32.const 5))))
      (local.set $fd (i32.load (i32.const 0)))
      (if (i32.eqz (call $recv (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 0) (i32.const 24) (i32.const 28)))
        (then
          (local.set $path (i32.load8_u (i32.const 4101)))
          (if (i32.eq (local.get $path) (i32.const 0x78)) (then (call $exit (i32.const 4))))
          (if (i32.eq (local.get $path) (i32.const 0x6c)) (then (loop $for_ever (br $for_ever))))
          (global.set $n (i32.add (global.get $n) (i32.const 1)))
          (i32.store8 (i32.const 121) (i32.add (i32.const 0x30) (i32.rem_u (global.get $n) (i32.const 10))))
          (drop (call $send (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 24)))))
      (drop (call $close (local.get $fd)))
      (br $next))))
