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
        pub fn kv_get(bucket: *const u8, bucket_len: usize, key: *const u8, key_len: usize, ptr: *mut u8, cap: usize, etag: *mut u8) -> i32;
        pub fn kv_set(bucket: *const u8, bucket_len: usize, key: *const u8, key_len: usize, ptr: *const u8, len: usize, mode: i32, etag: *mut u8) -> i32;
        pub fn kv_delete(bucket: *const u8, bucket_len: usize, key: *const u8, key_len: usize, mode: i32, etag: *mut u8) -> i32;
        pub fn blob_open(bucket: *const u8, bucket_len: usize, key: *const u8, key_len: usize, offset: i64, length: i64, info: *mut u8) -> i32;
        pub fn blob_read(blob: i32, ptr: *mut u8, cap: usize) -> i32;
        pub fn blob_create(bucket: *const u8, bucket_len: usize, key: *const u8, key_len: usize, mode: i32, etag: *mut u8) -> i32;
        pub fn blob_write(blob: i32, ptr: *const u8, len: usize) -> i32;
        pub fn blob_commit(blob: i32, etag: *mut u8) -> i32;
        pub fn blob_close(blob: i32) -> i32;
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

/// One of the buckets that the manifest's spec.buckets grants, by its name. Errors are errno numbers.
pub struct Bucket(pub &'static str);

/// Names the bytes that an object has; zeros are those of an object that is not there.
pub type ETag = [u8; 64];

pub const ABSENT: i32 = 2;
pub const EXISTS: i32 = 17;
pub const STALE: i32 = 116;

impl Bucket {
    /// Reads a value; ABSENT if there is none.
    pub fn get(&self, key: &str) -> Result<(Vec<u8>, ETag), i32> {
        let mut value = vec![0; 4096];
        loop {
            let mut etag = [0; 64];
            let len = result(unsafe {
                cl::kv_get(self.0.as_ptr(), self.0.len(), key.as_ptr(), key.len(), value.as_mut_ptr(), value.len(), etag.as_mut_ptr())
            })?;
            let whole = len <= value.len();
            value.resize(len, 0);
            if whole {
                return Ok((value, etag));
            }
        }
    }

    /// Writes a value if what is there has this ETag, which becomes the new one; STALE, EXISTS or ABSENT if not.
    pub fn swap(&self, key: &str, value: &[u8], etag: &mut ETag) -> Result<usize, i32> {
        let mode = if etag[0] == 0 { 1 } else { 2 };
        result(unsafe {
            cl::kv_set(self.0.as_ptr(), self.0.len(), key.as_ptr(), key.len(), value.as_ptr(), value.len(), mode, etag.as_mut_ptr())
        })
    }

    /// Puts what f makes of a value in its place, and calls f again if somebody else was first.
    pub fn update(&self, key: &str, mut f: impl FnMut(&[u8]) -> Vec<u8>) -> Result<(), i32> {
        loop {
            let (old, mut etag) = match self.get(key) {
                Err(ABSENT) => (Vec::new(), [0; 64]),
                got => got?,
            };
            match self.swap(key, &f(&old), &mut etag) {
                Err(STALE) | Err(EXISTS) | Err(ABSENT) => continue,
                done => return done.map(|_| ()),
            }
        }
    }

    /// Removes an object, whatever it is.
    pub fn delete(&self, key: &str) -> Result<usize, i32> {
        result(unsafe { cl::kv_delete(self.0.as_ptr(), self.0.len(), key.as_ptr(), key.len(), 0, std::ptr::null_mut()) })
    }

    /// Opens an object to be read as a stream.
    pub fn open(&self, key: &str) -> Result<Blob, i32> {
        result(unsafe { cl::blob_open(self.0.as_ptr(), self.0.len(), key.as_ptr(), key.len(), 0, -1, std::ptr::null_mut()) }).map(|n| Blob(n as i32))
    }

    /// Begins an object, which others see when it is committed.
    pub fn create(&self, key: &str) -> Result<Blob, i32> {
        result(unsafe { cl::blob_create(self.0.as_ptr(), self.0.len(), key.as_ptr(), key.len(), 0, std::ptr::null_mut()) }).map(|n| Blob(n as i32))
    }
}

/// An open object. What was written to it and not committed is as if it had never been.
pub struct Blob(i32);

impl Blob {
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, i32> {
        result(unsafe { cl::blob_read(self.0, buffer.as_mut_ptr(), buffer.len()) })
    }

    pub fn write(&self, bytes: &[u8]) -> Result<usize, i32> {
        result(unsafe { cl::blob_write(self.0, bytes.as_ptr(), bytes.len()) })
    }

    pub fn commit(self) -> Result<usize, i32> {
        result(unsafe { cl::blob_commit(self.0, std::ptr::null_mut()) })
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        unsafe { cl::blob_close(self.0) }; // EBADF after a commit
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
