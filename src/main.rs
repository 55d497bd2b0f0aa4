//! The `trustwatch` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    trustwatch::cli::main()
}
