//! A greeting by WAGI: see wagi.c.

fn main() {
    let method = std::env::var("REQUEST_METHOD").unwrap_or_default();
    print!("Content-Type: text/plain\n\nhello from Rust {method}\n");
}
