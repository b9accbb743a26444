//! See `fuzz::queries`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::queries::ready(), |data: &[u8]| fuzz::queries::run(data));
