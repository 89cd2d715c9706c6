//! A record of the metadata log.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| broker_wire::fuzz::fuzz_metadata_record(bytes));
