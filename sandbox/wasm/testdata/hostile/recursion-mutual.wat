;; Two functions call each other for ever.
(module (func $f (export "cl_handle") (call $g)) (func $g (call $f)))
