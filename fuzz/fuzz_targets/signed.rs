//! See `farol_fuzz::signed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farol_fuzz::signed::check(data));
