//! hello in Rust for cloudless:http/v1: answers every request with a greeting.

mod cl {
    #[link(wasm_import_module = "cl")]
    extern "C" {
        pub fn req_head(ptr: *mut u8, cap: usize) -> usize;
        pub fn resp_head(status: i32, ptr: *const u8, len: usize) -> i32;
        pub fn body_write(ptr: *const u8, len: usize) -> i32;
        pub fn log(level: i32, ptr: *const u8, len: usize);
    }
}

const LEVEL_INFO: i32 = 1;

#[no_mangle]
pub extern "C" fn cl_handle() {
    let head = request_head();
    let line = head.split(|&b| b == b'\n').next().unwrap_or(&[]);
    let fields = "content-type: text/plain\n";
    let greeting = std::env::var("GREETING").unwrap_or_default();
    let body = format!("hello from Rust {}\n", greeting);
    // Safety: each pointer is that of a live slice, with its length.
    unsafe {
        cl::log(LEVEL_INFO, line.as_ptr(), line.len());
        cl::resp_head(200, fields.as_ptr(), fields.len());
        cl::body_write(body.as_ptr(), body.len());
    }
}

/// "METHOD URI" and the request's fields, a line each. req_head tells the whole length, so a second
/// call gets what the first had no room for.
fn request_head() -> Vec<u8> {
    let mut head = vec![0; 2048];
    loop {
        // Safety: the host writes at most head.len() bytes.
        let len = unsafe { cl::req_head(head.as_mut_ptr(), head.len()) };
        let whole = len <= head.len();
        head.resize(len, 0);
        if whole {
            return head;
        }
    }
}
