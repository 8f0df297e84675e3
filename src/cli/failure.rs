//! Why a command failed, and the exit code that says so.

/// The result of a command.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a command failed; variants by the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line cannot be right.
    #[error("{0}")]
    Usage(String),
    /// The server gave no answer.
    #[error("cannot reach the server: {reason}: `{server}`")]
    Unreachable {
        /// Its address.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// The server said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its reason.
        message: String,
        /// What to try.
        hint: Option<String>,
    },
    /// The server's answer makes no sense.
    #[error("bad answer from the server: {0}")]
    BadReply(String),
    /// The store could not do it.
    #[error("{0}")]
    Store(#[from] crate::store::Error),
    /// What was looked at is not good; what is wrong was printed.
    #[error("found {0}")]
    Findings(String),
    /// The output could not be written.
    #[error("failed to write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl Failure {
    /// 0 when only the reader of our output went away; else 1 findings, 2 usage, 3 server not
    /// reached, 4 not allowed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 3,
            Self::Refused { status, .. } => match status {
                400 | 413 | 415 => 2,
                401 | 403 => 4,
                502..=504 => 3,
                _ => 1,
            },
            Self::BadReply(_) | Self::Store(_) | Self::Findings(_) => 1,
            Self::Output(error) => u8::from(error.kind() != std::io::ErrorKind::BrokenPipe),
        }
    }

    /// What a person could do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => {
                Some("start it with `watchkeeper serve`, or name it with `--server`".to_owned())
            }
            Self::Refused { hint: Some(hint), .. } => Some(hint.clone()),
            Self::Refused { status: 401 | 403, .. } => {
                Some("set `WATCHKEEPER_TOKEN` to a token whose role allows this".to_owned())
            }
            Self::Refused { status: 503, .. } => Some("try again in a moment".to_owned()),
            _ => None,
        }
    }

    /// The text for people: the error, and the hint on a line of its own.
    pub fn report(&self) -> String {
        let error = super::output::plain(&self.to_string());
        match self.hint() {
            Some(hint) => format!("error: {error}\nhint: {}", super::output::plain(&hint)),
            None => format!("error: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_its_exit_code() {
        for (status, code) in [
            (400, 2),
            (401, 4),
            (403, 4),
            (404, 1),
            (409, 1),
            (413, 2),
            (422, 1),
            (500, 1),
            (503, 3),
        ] {
            let failure = Failure::Refused { status, message: String::new(), hint: None };
            assert_eq!(failure.exit_code(), code, "{status}");
        }
    }

    #[test]
    fn a_broken_pipe_is_no_error() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::Output(broken).exit_code(), 0);
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(Failure::Output(full).exit_code(), 1);
    }

    #[test]
    fn a_report_has_a_hint_and_no_terminal_codes() {
        let message = "bad\u{1b}[31m".to_owned();
        let report = Failure::Refused { status: 403, message, hint: None }.report();
        assert!(report.contains("\nhint: set `WATCHKEEPER_TOKEN`"), "{report}");
        assert!(!report.contains('\u{1b}'), "{report}");
    }
}
