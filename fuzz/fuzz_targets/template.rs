//! Throws bytes at `read_template`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| watchkeeper_fuzz::read_template(bytes));
