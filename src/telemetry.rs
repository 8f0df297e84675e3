//! Tracing, and the one list of metric names.

pub mod logging;
pub mod metrics;
mod process;

pub use logging::{LogFormat, start_logging};
pub use metrics::{Gauges, Metrics, Silences};
