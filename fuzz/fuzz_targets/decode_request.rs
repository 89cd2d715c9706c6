//! A request frame on either listener.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| broker_wire::fuzz::fuzz_decode_request(bytes));
