//! Tracing, and the one list of metric names.

mod forecasts;
mod gauges;
mod heard;
pub mod logging;
pub mod metrics;
mod process;

pub use forecasts::LastLook;
pub use gauges::Gauges;
pub use heard::PollHealth;
pub use logging::{LogFormat, start_logging};
pub use metrics::{Metrics, Silences};
