//! Throws bytes at `read_posted_alerts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| watchkeeper_fuzz::read_posted_alerts(bytes));
