//! Watchkeeper keeps the watch over production: it hears alerts, writes them into its log,
//! decides, acts, learns and reports.
//!
//! ```text
//!   ingest ─┐                            ┌─► act ──┐
//!     api  ─┼─► engine ─► store (log)    │         │
//!   learn  ─┘     │  └──► domain ────────┘         │
//!      ▲          └── next wake-up, reads          │
//!      └───────────── results are facts ◄──────────┘
//! ```

pub mod domain;

pub mod store;

pub mod engine;

pub mod act;
pub mod ingest;
pub mod learn;

pub mod api;
pub mod config;
pub mod telemetry;

pub mod cli;
