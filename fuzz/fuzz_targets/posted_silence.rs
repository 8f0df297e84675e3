//! Throws bytes at `read_posted_silence`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| watchkeeper_fuzz::read_posted_silence(bytes));
