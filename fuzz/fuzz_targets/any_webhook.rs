//! Throws bytes at `read_any_webhook`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| watchkeeper_fuzz::read_any_webhook(bytes));
