//! Echo in Rust for cloudless:http/v1: answers every request with the request's body.

mod cl {
    #[link(wasm_import_module = "cl")]
    extern "C" {
        pub fn body_read(ptr: *mut u8, cap: usize) -> i32;
        pub fn body_write(ptr: *const u8, len: usize) -> i32;
    }
}

/// Streams: a body larger than the guest's memory passes through the one buffer.
#[no_mangle]
pub extern "C" fn cl_handle() {
    let mut buffer = [0; 16384];
    loop {
        // Safety: the host writes at most buffer.len() bytes.
        let n = unsafe { cl::body_read(buffer.as_mut_ptr(), buffer.len()) };
        if n <= 0 || !write(&buffer[..n as usize]) {
            return;
        }
    }
}

/// Tells whether the client took all of the bytes.
fn write(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        // Safety: the pointer is that of a live slice, with its length.
        let n = unsafe { cl::body_write(bytes.as_ptr(), bytes.len()) };
        if n <= 0 {
            return false;
        }
        bytes = &bytes[n as usize..];
    }
    true
}
