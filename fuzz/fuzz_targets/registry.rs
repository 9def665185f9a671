//! See `farol_fuzz::registry`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farol_fuzz::registry::check(data));
