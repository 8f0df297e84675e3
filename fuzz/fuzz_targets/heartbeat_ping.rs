//! Throws bytes at `read_heartbeat_ping`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| watchkeeper_fuzz::read_heartbeat_ping(bytes));
