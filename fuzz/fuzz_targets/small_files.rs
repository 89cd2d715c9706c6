//! Checkpoints, snapshots, properties and the quorum state.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| broker_server::storage::fuzz::fuzz_small_files(bytes));
