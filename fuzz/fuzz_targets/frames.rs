//! See `farol_fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farol_fuzz::frames::check(data));
