//! A control record.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| broker_wire::fuzz::fuzz_control_record(bytes));
