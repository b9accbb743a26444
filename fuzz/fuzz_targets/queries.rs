//! See `fuzz::queries`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::queries::run(data));
