//! Visits in Rust: counts its visits in a bucket, by compare-and-set.

#[path = "../lib/rust/cloudless.rs"]
mod cloudless;

const SESSIONS: cloudless::Bucket = cloudless::Bucket("sessions");

#[no_mangle]
pub extern "C" fn cl_handle() {
    let mut visits = 0;
    let counted = SESSIONS.update("visits", |old| {
        let before: u64 = std::str::from_utf8(old).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        visits = before + 1;
        visits.to_string().into_bytes()
    });
    match counted {
        Ok(()) => cloudless::write(format!("{}\n", visits).as_bytes()),
        Err(errno) => {
            cloudless::respond(503, ""); // the workload's log says why
            cloudless::write(format!("not counted: errno {}\n", errno).as_bytes())
        }
    };
}
