//! The identity service as a process.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    usher_platform::run_main("usher-identity", usher_identity::config::DEFAULTS, usher_identity::run)
}
