//! See `farol_fuzz::legacy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farol_fuzz::legacy::check(data));
