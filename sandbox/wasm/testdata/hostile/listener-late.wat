;; Its start function leaves a file in the first folder that is mounted. Where one lies already it never ends.
(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "late")
  (func $s ;; create and exclusive, by descriptor 4: the listener is 3
    (if (call $open (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 5) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 8))
      (then (loop $l (br $l)))))
  (start $s)
  (func (export "_start") ;; sleeps for an hour, and takes no connection
    (i32.store offset=32 (i32.const 0) (i32.const 1)) (i64.store offset=40 (i32.const 0) (i64.const 3600000000000))
    (drop (call $poll (i32.const 16) (i32.const 128) (i32.const 1) (i32.const 256)))))
