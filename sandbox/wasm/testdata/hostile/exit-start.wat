;; Exits in its start section.
(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1) (func $f (call $exit (i32.const 0))) (start $f) (func (export "cl_handle")))
