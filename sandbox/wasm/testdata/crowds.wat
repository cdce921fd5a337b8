;; Takes eight pages more for each request, traps where it gets none, and ends with the request's body.
(module
  (import "cl" "body_read" (func $read (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "cl_handle")
    (if (i32.eq (memory.grow (i32.const 8)) (i32.const -1)) (then unreachable))
    (loop $more (br_if $more (i32.gt_s (call $read (i32.const 0) (i32.const 64)) (i32.const 0))))))
