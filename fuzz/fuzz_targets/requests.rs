//! See `fuzz::requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::requests::ready(), |data: &[u8]| fuzz::requests::run(data));
