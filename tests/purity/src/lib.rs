//! std brings a panic handler of its own. This crate has one too, so the compiler refuses it (E0152) if anything
//! below core links std: core then could read a clock, open a socket or iterate a hash map, unseen.
#![no_std]

extern crate bidmesh_core;
#[cfg(feature = "canary")]
extern crate std;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
