//! The command `completions`: a script that completes our commands in a shell.

use super::failure::Result;
use super::output;

/// Prints the script.
pub fn run(shell: clap_complete::Shell, command: &mut clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "watchkeeper", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
