//! The command `executor`: starts the programs of steps for a daemon that faces the network.

use super::output::say;
use super::{parse_limit, serve};
use crate::act::executor::{self, Bounded, Permit, Place, Socket, group_number, user_number};
use crate::telemetry::{LogFormat, start_logging};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where it listens, to whom, and what it does for them.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The Unix socket to listen on; the daemon's setting `executor: {socket: …}` names the same
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Who may give orders, by name or number; our own user unless told. The kernel says who asks
    #[arg(long, value_name = "USER")]
    allow_user: Vec<String>,
    /// The socket's group, by name or number, whose members reach it where `--allow-user` is told
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Start this program only, or with `/` at the end all that is directly in this folder; may be
    /// told several times
    #[arg(long, value_name = "PATH")]
    allow_program: Vec<String>,
    /// With `--allow-program`: let steps set this variable, and no other
    #[arg(long, value_name = "NAME", requires = "allow_program")]
    allow_variable: Vec<String>,
    /// How many programs run at once
    #[arg(long, value_name = "NUMBER", default_value = "32", value_parser = parse_programs)]
    programs_max: usize,
    /// Write the log as JSON
    #[arg(long)]
    log_json: bool,
}

/// More processes at once are of no use to anybody.
const PROGRAMS_MAX: usize = 1024;

fn parse_programs(text: &str) -> Result<usize, String> {
    let most = format!("expected a number from 1 to {PROGRAMS_MAX}");
    parse_limit(text).ok().filter(|it| *it <= PROGRAMS_MAX).ok_or(most)
}

/// Serves until it is told to stop.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    start_logging(if arguments.log_json { LogFormat::Json } else { LogFormat::Text });
    let (place, bounded) = match read(arguments) {
        Ok(read) => read,
        Err(error) => {
            say(&format!("error: {error}"));
            return Ok(ExitCode::from(2));
        }
    };
    // Before there are threads, since the mode of the socket is that of all of us meanwhile.
    let socket = Socket::open(&place).map_err(|error| anyhow::anyhow!(error))?;
    if !bounded.permit.is_narrow() {
        tracing::info!(
            "every program is started that is asked for; `--allow-program` narrows that"
        );
    }
    let runtime = serve::runtime()?;
    let served = runtime.block_on(async {
        let stopping = CancellationToken::new();
        let told = stopping.clone();
        tokio::spawn(async move {
            serve::wait_for_signal().await;
            told.cancel();
        });
        say(&format!("listening on {}", socket.path().display()));
        executor::serve(socket, bounded, stopping).await
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    served?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn read(arguments: Arguments) -> Result<(Place, Bounded), String> {
    let own = rustix::process::geteuid().as_raw();
    let told: Vec<u32> =
        arguments.allow_user.iter().map(|it| user_number(it)).collect::<Result<_, _>>()?;
    let users = if told.is_empty() { vec![own] } else { told };
    let place = Place {
        socket: arguments.socket,
        is_shared: users.iter().any(|it| *it != own),
        group: arguments.group.as_deref().map(group_number).transpose()?,
    };
    let permit = Permit::new(&arguments.allow_program, arguments.allow_variable)?;
    Ok((place, Bounded { users, permit, programs_max: arguments.programs_max }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(line: &str) -> Option<Arguments> {
        let words = ["executor"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).ok().map(|it| it.arguments)
    }

    #[test]
    fn who_may_give_orders_is_who_is_told_or_else_we() {
        let own = rustix::process::geteuid().as_raw();
        let (place, bounded) = read(parse("--socket s").unwrap()).unwrap();
        assert_eq!((place.is_shared, place.group, bounded.users), (false, None, vec![own]));
        assert!(!bounded.permit.is_narrow() && bounded.programs_max == 32);
        let line = "--socket s --allow-user root --allow-user 64999 --group root \
                    --allow-program /bin/sh --allow-variable A --programs-max 2 --log-json";
        let (place, bounded) = read(parse(line).unwrap()).unwrap();
        assert_eq!((place.is_shared, place.group), (true, Some(0)));
        assert_eq!((bounded.users, bounded.programs_max), (vec![0, 64999], 2));
        assert!(bounded.permit.is_narrow());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "--socket s --programs-max 0",
            "--socket s --programs-max 1025",
            "--socket s --allow-variable A",
        ] {
            assert!(parse(line).is_none(), "{line}");
        }
        for line in ["--allow-user no-such-user", "--group no-such", "--allow-program sh"] {
            assert!(read(parse(&format!("--socket s {line}")).unwrap()).is_err(), "{line}");
        }
    }
}
