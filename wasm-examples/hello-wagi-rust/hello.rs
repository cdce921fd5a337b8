//! hello in Rust for WAGI: the request is in the environment and on standard input, the answer goes to
//! standard output as CGI headers, an empty line and the body.

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn main() {
    eprintln!("{} {}", env("REQUEST_METHOD"), env("PATH_INFO"));
    print!("Content-Type: text/plain\n\nhello from Rust, by WAGI {}\n", env("GREETING"));
}
