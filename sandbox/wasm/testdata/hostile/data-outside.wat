;; Has data that lies outside of its memory.
(module (memory (export "memory") 1) (data (i32.const 65530) "longer than there is room") (func (export "cl_handle")))
