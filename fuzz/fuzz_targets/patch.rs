//! See `farol_fuzz::patch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farol_fuzz::patch::check(data));
