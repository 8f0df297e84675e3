//! Throws bytes at `read_stored_value`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| watchkeeper_fuzz::read_stored_value(bytes));
