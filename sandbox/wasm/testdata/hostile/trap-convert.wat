;; Makes an integer of no number.
(module (func (export "cl_handle") (drop (i32.trunc_f64_s (f64.const nan)))))
