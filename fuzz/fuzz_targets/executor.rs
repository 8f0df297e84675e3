//! Throws bytes at `read_executor`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| watchkeeper_fuzz::read_executor(bytes));
