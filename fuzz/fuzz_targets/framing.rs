//! See `check_framing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bidmesh_fuzz::checks::check_framing(bytes));
