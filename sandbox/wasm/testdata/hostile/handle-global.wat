;; Its cl_handle is a global.
(module (global (export "cl_handle") i32 (i32.const 1)))
