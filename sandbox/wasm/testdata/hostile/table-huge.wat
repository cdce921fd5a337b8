;; Wants a table of a hundred million entries from the start.
(module (table 100000000 funcref) (func (export "cl_handle")))
