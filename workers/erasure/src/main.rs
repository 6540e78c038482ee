//! The process: see the library beside it.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let name = "usher-worker-erasure";
    usher_platform::run_main(name, usher_worker_erasure::DEFAULTS, usher_worker_erasure::main)
}
