//! The program `larder`.

use std::process::ExitCode;

fn main() -> ExitCode {
    larder::main()
}
