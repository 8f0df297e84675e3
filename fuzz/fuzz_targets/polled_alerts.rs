//! Throws bytes at `read_polled_alerts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| watchkeeper_fuzz::read_polled_alerts(bytes));
