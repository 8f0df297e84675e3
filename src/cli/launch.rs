//! The command `launch`, which the daemon gives to itself: starts a step's program in bounds.

use crate::act::launch::{self, Order};
use crate::domain::rules::{Limits, Paths};
use std::process::ExitCode;

/// A program and its bounds.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Become the program, rather than its keeper
    #[arg(long)]
    inside: bool,
    #[arg(long)]
    processes: u32,
    #[arg(long)]
    files: u32,
    #[arg(long)]
    memory_bytes: Option<u64>,
    #[arg(long)]
    file_bytes: Option<u64>,
    #[arg(long)]
    cpu_seconds: Option<u32>,
    #[arg(long)]
    new_privileges: bool,
    #[arg(long)]
    user: Option<String>,
    #[arg(long, default_value_t = 0)]
    stdin_bytes: usize,
    #[command(flatten)]
    confinement: Confinement,
    /// Program and arguments
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// Where a program may read and write.
#[derive(Debug, clap::Args)]
struct Confinement {
    /// Whether it is held to what follows
    #[arg(long)]
    confined: bool,
    #[arg(long, requires = "confined")]
    read: Vec<String>,
    #[arg(long, requires = "confined")]
    write: Vec<String>,
    #[arg(long, requires = "confined")]
    best_effort: bool,
}

/// Does it; ends as the program ends.
pub(super) fn run(arguments: Arguments) -> ExitCode {
    let inside = arguments.inside;
    let Confinement { confined, read, write, best_effort } = arguments.confinement;
    let paths = Paths { read, write, best_effort };
    let order = Order {
        argv: arguments.argv,
        limits: Limits {
            processes: arguments.processes,
            files: arguments.files,
            memory_bytes: arguments.memory_bytes,
            file_bytes: arguments.file_bytes,
            cpu_seconds: arguments.cpu_seconds,
            new_privileges: arguments.new_privileges,
        },
        user: arguments.user,
        stdin_bytes: arguments.stdin_bytes,
        paths: confined.then_some(paths),
    };
    if inside { launch::become_program(&order) } else { launch::keep(&order) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use proptest::prelude::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn argv_of(argv: &[String]) -> Vec<String> {
        let order = Order { argv: argv.to_vec(), ..Order::default() };
        Line::parse_from(launch::arguments(&order)).arguments.argv
    }

    #[test]
    fn what_looks_like_an_option_is_an_argument() {
        let argv = ["sh", "--", "--inside", "-h", "--help", "--processes=1", "-", ""];
        let argv = argv.map(str::to_owned).to_vec();
        assert_eq!(argv_of(&argv), argv);
    }

    proptest! {
        #[test]
        fn a_keeper_passes_on_what_it_is_given(argv in prop::collection::vec(any::<String>(), 1..6)) {
            prop_assert_eq!(argv_of(&argv), argv.clone());
        }
    }
}
