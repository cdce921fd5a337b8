//! Echo in Rust: answers every request with the request's body.

#[path = "../lib/rust/cloudless.rs"]
mod cloudless;

/// Streams: a body larger than the guest's memory passes through the one buffer.
#[no_mangle]
pub extern "C" fn cl_handle() {
    let mut buffer = [0; 16384];
    while let Some(n) = cloudless::read(&mut buffer) {
        if n == 0 || !cloudless::write(&buffer[..n]) {
            return;
        }
    }
}
