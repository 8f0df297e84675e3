//! Where log lines go: stderr, as text for people or as JSON for programs.

use tracing_subscriber::EnvFilter;

/// The environment variable that chooses what is logged, for example `info,watchkeeper=debug`.
pub const FILTER_VARIABLE: &str = "WATCHKEEPER_LOG";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to stderr. Without [`FILTER_VARIABLE`] everything from `info` up is logged. Does
/// nothing when logging was started before.
pub fn start_logging(format: LogFormat) {
    let (filter, mistake) = match std::env::var(FILTER_VARIABLE) {
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new("info"), Some((text, error.to_string()))),
        },
        Err(_) => (EnvFilter::new("info"), None),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let started = match format {
        LogFormat::Text => builder.with_ansi(colour).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let (Ok(()), Some((text, error))) = (started, mistake) {
        tracing::warn!("cannot read {FILTER_VARIABLE}, logging from info up: {error}: `{text}`");
    }
}
