mod leaks;
mod memory;
mod steps;
mod torture;

use std::path::Path;

/// The program that has the node process's command.
fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_granary-e2e"))
}
