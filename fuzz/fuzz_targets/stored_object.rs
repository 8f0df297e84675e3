//! Throws bytes at `read_stored_object`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| watchkeeper_fuzz::read_stored_object(bytes));
