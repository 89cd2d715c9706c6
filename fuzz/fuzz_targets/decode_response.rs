//! A response frame, behind two bytes that choose its API and version.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| broker_wire::fuzz::fuzz_decode_response(bytes));
