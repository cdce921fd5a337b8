//! hello in Rust: answers every request with a greeting, /random with a random number.

#[path = "../lib/rust/cloudless.rs"]
mod cloudless;

const LEVEL_INFO: i32 = 1;

#[no_mangle]
pub extern "C" fn cl_handle() {
    let head = cloudless::request_head();
    let line = head.lines().next().unwrap_or_default();
    cloudless::log(LEVEL_INFO, line);
    let body = if line == "GET /random" {
        format!("{}\n", cloudless::random())
    } else {
        format!("hello from Rust {}\n", std::env::var("GREETING").unwrap_or_default())
    };
    cloudless::respond(200, "content-type: text/plain\n");
    cloudless::write(body.as_bytes());
}
