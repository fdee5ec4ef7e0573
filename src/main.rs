//! The `nightjar` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightjar::cli::main()
}
