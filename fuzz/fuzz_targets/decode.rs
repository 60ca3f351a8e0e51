//! See `check_decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bidmesh_fuzz::checks::check_decode(bytes));
