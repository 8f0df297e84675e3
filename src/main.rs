//! The program `watchkeeper`: hands over to the command line at once.

use std::process::ExitCode;

fn main() -> ExitCode {
    watchkeeper::cli::main()
}
