//! The guest's side of cloudless:http/v1 for Rust, without crates.
//!
//! ```
//! #[path = "../lib/rust/cloudless.rs"]
//! mod cloudless;
//! #[no_mangle]
//! pub extern "C" fn cl_handle() {
//!     cloudless::respond(200, "content-type: text/plain\n");
//!     cloudless::write(b"hello\n");
//! }
//! ```
//!
//! A request starts from an image of the module, so a generator that was seeded before would give every
//! request the same numbers: cl_resume, which is exported here, seeds random() anew. The keys of a
//! std HashMap's hasher are kept by the standard library and are not; they are drawn when the first map
//! is made, so make none in _initialize if its keys come from strangers.
#![allow(dead_code)] // no guest uses all of it

use std::cell::Cell;

mod cl {
    #[link(wasm_import_module = "cl")]
    extern "C" {
        pub fn req_head(ptr: *mut u8, cap: usize) -> usize;
        pub fn body_read(ptr: *mut u8, cap: usize) -> i32;
        pub fn resp_head(status: i32, ptr: *const u8, len: usize) -> i32;
        pub fn body_write(ptr: *const u8, len: usize) -> i32;
        pub fn flush();
        pub fn log(level: i32, ptr: *const u8, len: usize);
        pub fn fetch_open(ptr: *const u8, len: usize) -> i32;
        pub fn fetch_write(fetch: i32, ptr: *const u8, len: usize) -> i32;
        pub fn fetch_head(fetch: i32, ptr: *mut u8, cap: usize) -> i32;
        pub fn fetch_read(fetch: i32, ptr: *mut u8, cap: usize) -> i32;
        pub fn fetch_close(fetch: i32) -> i32;
    }
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    extern "C" {
        pub fn random_get(ptr: *mut u8, len: usize) -> i32;
    }
}

// Safety, of all calls below: each pointer is that of a live slice, with its length.

/// "METHOD URI" and the request's fields, a line each. req_head tells the whole length, so a second
/// call gets what the first had no room for.
pub fn request_head() -> String {
    let mut head = vec![0; 2048];
    loop {
        let len = unsafe { cl::req_head(head.as_mut_ptr(), head.len()) };
        let whole = len <= head.len();
        head.resize(len, 0);
        if whole {
            return String::from_utf8_lossy(&head).into_owned();
        }
    }
}

/// The next bytes of the request's body; 0 at its end, None when the client is gone.
pub fn read(buffer: &mut [u8]) -> Option<usize> {
    result(unsafe { cl::body_read(buffer.as_mut_ptr(), buffer.len()) }).ok()
}

/// Sends the status and fields, "name: value\n" each; 0 or an errno.
pub fn respond(status: i32, fields: &str) -> i32 {
    unsafe { cl::resp_head(status, fields.as_ptr(), fields.len()) }
}

/// Sends all of the bytes; false once the client is gone.
pub fn write(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let n = unsafe { cl::body_write(bytes.as_ptr(), bytes.len()) };
        if n <= 0 {
            return false;
        }
        bytes = &bytes[n as usize..];
    }
    true
}

pub fn flush() {
    unsafe { cl::flush() }
}

/// Writes a line to the workload's log: level 0 debug, 1 info, 2 warn, 3 error.
pub fn log(level: i32, text: &str) {
    unsafe { cl::log(level, text.as_ptr(), text.len()) }
}

/// A request to what the manifest's egress.allow names. Errors are errno numbers.
pub struct Fetch(i32);

impl Fetch {
    /// Begins with a head: "METHOD URL\n", then "name: value\n" each.
    pub fn open(head: &str) -> Result<Fetch, i32> {
        result(unsafe { cl::fetch_open(head.as_ptr(), head.len()) }).map(|n| Fetch(n as i32))
    }

    pub fn write(&self, bytes: &[u8]) -> Result<usize, i32> {
        result(unsafe { cl::fetch_write(self.0, bytes.as_ptr(), bytes.len()) })
    }

    /// "STATUS\n", then the response's fields, a line each.
    pub fn head(&self) -> Result<String, i32> {
        let mut head = vec![0; 2048];
        loop {
            let len = result(unsafe { cl::fetch_head(self.0, head.as_mut_ptr(), head.len()) })?;
            let whole = len <= head.len();
            head.resize(len, 0);
            if whole {
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
        }
    }

    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, i32> {
        result(unsafe { cl::fetch_read(self.0, buffer.as_mut_ptr(), buffer.len()) })
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        unsafe { cl::fetch_close(self.0) };
    }
}

fn result(n: i32) -> Result<usize, i32> {
    if n < 0 { Err(-n) } else { Ok(n as usize) }
}

thread_local!(static SEED: Cell<u64> = Cell::new(0)); // of xorshift64*, 0 before the first number

#[no_mangle]
pub extern "C" fn cl_resume() {
    let mut seed = [0; 8];
    while seed == [0; 8] {
        unsafe { cl::random_get(seed.as_mut_ptr(), seed.len()) };
    }
    SEED.with(|s| s.set(u64::from_le_bytes(seed)));
}

/// The next number of a generator that is quick, and not for secrets: take random_get there.
pub fn random() -> u64 {
    if SEED.with(Cell::get) == 0 {
        cl_resume();
    }
    SEED.with(|s| {
        let mut x = s.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        s.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}
