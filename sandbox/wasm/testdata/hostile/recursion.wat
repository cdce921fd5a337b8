;; Calls itself for ever.
(module (func $f (export "cl_handle") (call $f)))
