//! A log's files, opened and used.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| broker_server::storage::fuzz::fuzz_log(bytes));
