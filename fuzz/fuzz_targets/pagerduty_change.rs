//! Throws bytes at `read_pagerduty_change`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| watchkeeper_fuzz::read_pagerduty_change(bytes));
