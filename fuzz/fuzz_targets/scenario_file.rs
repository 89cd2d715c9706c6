//! A scenario file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(scenarios::file::parse_bytes("fuzz.toml", bytes)));
