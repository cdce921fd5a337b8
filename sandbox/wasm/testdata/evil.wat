;; Misbehaves as the first letter of the path says. Answers are i32 values, four bytes each.
(module
  (import "cl" "req_head" (func $req_head (param i32 i32) (result i32)))
  (import "cl" "body_read" (func $read (param i32 i32) (result i32)))
  (import "cl" "resp_head" (func $head (param i32 i32 i32) (result i32)))
  (import "cl" "body_write" (func $write (param i32 i32) (result i32)))
  (import "cl" "flush" (func $flush))
  (import "cl" "log" (func $log (param i32 i32 i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $count (mut i32) (i32.const 0))
  (data (i32.const 0) "ab: c\n")          ;; a good header
  (data (i32.const 16) "bad header\n")
  (data (i32.const 32) "two\nlines")
  (data (i32.const 48) "the client is gone")
  (func $answer (param $n i32)
    (i32.store (i32.const 256) (local.get $n))
    (drop (call $write (i32.const 256) (i32.const 4))))
  (func $is (param $letter i32) (result i32)
    (i32.eq (i32.load8_u (i32.const 1029)) (local.get $letter))) ;; "GET /x"
  (func $trap unreachable)
  (func $pages (result i32)
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (memory.size))
  (func $chain (param $n i32) ;; 2^n calls and no loop
    (if (local.get $n) (then
      (call $chain (i32.sub (local.get $n) (i32.const 1)))
      (call $chain (i32.sub (local.get $n) (i32.const 1))))))
  (func $deep (call $deep))
  (func (export "cl_handle")
    (drop (call $req_head (i32.const 1024) (i32.const 4096)))
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (if (call $is (i32.const 0x63)) (then (call $answer (global.get $count)))) ;; c: count
    (if (call $is (i32.const 0x75)) (then (call $trap))) ;; u: trap before the head
    (if (call $is (i32.const 0x77)) (then ;; w: trap after it
      (call $answer (i32.const 7)) (call $flush) (call $trap)))
    (if (call $is (i32.const 0x6c)) (then (loop $again (br $again)))) ;; l: loop
    (if (call $is (i32.const 0x69)) (then (call $chain (i32.const 60)))) ;; i: chain of calls
    (if (call $is (i32.const 0x64)) (then (call $deep))) ;; d: endless recursion
    (if (call $is (i32.const 0x66)) (then ;; f: fill memory for ever
      (loop $again (memory.fill (i32.const 4096) (i32.const 1) (i32.const 61440)) (br $again))))
    (if (call $is (i32.const 0x73)) (then ;; s: sleep an hour
      (i32.store (i32.const 528) (i32.const 1))
      (i64.store (i32.const 536) (i64.const 3600000000000))
      (drop (call $poll (i32.const 512) (i32.const 640) (i32.const 1) (i32.const 704)))
      (call $answer (i32.const 1))))
    (if (call $is (i32.const 0x72)) (then ;; r: wait for a body, then tell what came
      (call $answer (call $read (i32.const 2048) (i32.const 100)))))
    (if (call $is (i32.const 0x70)) (then (drop (call $write (i32.const 0xfffffff0) (i32.const 100)))))
    (if (call $is (i32.const 0x71)) (then (drop (call $req_head (i32.const 65535) (i32.const 0xffffffff)))))
    (if (call $is (i32.const 0x74)) (then (drop (call $read (i32.const 65536) (i32.const 1)))))
    (if (call $is (i32.const 0x76)) (then (drop (call $head (i32.const 200) (i32.const -1) (i32.const 1)))))
    (if (call $is (i32.const 0x78)) (then (call $log (i32.const 9) (i32.const 65530) (i32.const 7))))
    (if (call $is (i32.const 0x68)) (then ;; h: heads that are refused, one that is taken, one too many
      (i32.store (i32.const 300) (call $head (i32.const 99) (i32.const 0) (i32.const 6)))
      (i32.store (i32.const 304) (call $head (i32.const 101) (i32.const 0) (i32.const 6)))
      (i32.store (i32.const 308) (call $head (i32.const 200) (i32.const 16) (i32.const 11)))
      (i32.store (i32.const 312) (call $head (i32.const 201) (i32.const 0) (i32.const 6)))
      (i32.store (i32.const 316) (call $head (i32.const 202) (i32.const 0) (i32.const 6)))
      (drop (call $write (i32.const 300) (i32.const 20)))))
    (if (call $is (i32.const 0x67)) (then (call $answer (call $pages)))) ;; g: grow
    (if (call $is (i32.const 0x6f)) (then ;; o: log
      (call $log (i32.const 2) (i32.const 32) (i32.const 9))))
    (if (call $is (i32.const 0x65)) (then (call $exit (i32.const 3)))) ;; e: exit
    (if (call $is (i32.const 0x7a)) (then (call $exit (i32.const 0)))) ;; z: exit 0
    (if (call $is (i32.const 0x6b)) (then ;; k: write until the client is gone
      (loop $on (br_if $on (i32.ge_s (call $write (i32.const 0) (i32.const 65536)) (i32.const 0))))
      (call $log (i32.const 1) (i32.const 48) (i32.const 18))))))
