//! The sluice binary: parses the command line and hands over to the library.

use std::process::ExitCode;

/// Records are made on one thread and freed on another all day; the system's allocator pays for that twice over.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice::cli::main()
}
