//! What one device of the mesh decides, and nothing else.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod draw;
pub mod id;
pub mod load;
pub mod time;
pub mod wire;
