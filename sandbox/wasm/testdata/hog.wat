;; Takes memory until it gets no more, then fails.
(module
  (memory (export "memory") 1)
  (func $grow (export "_start")
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    unreachable))
