//! See `check_device`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bidmesh_fuzz::world::check_device(bytes));
