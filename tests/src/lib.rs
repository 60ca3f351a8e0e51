//! What end-to-end tests share: shell devices, netcats, a real model, processes that die with the test, deadlines.
//!
//! This crate is test code. A helper that cannot do its work panics and so fails the test that called it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is a failed test"
)]

mod background;
mod bidmesh;
mod binary;
mod peer;
mod phones;
mod port;
mod process;
mod programs;
mod raw;
mod real_model;
mod runner;
mod setup;
mod shell_device;
mod wait;

pub use background::Background;
pub use bidmesh::{BidmeshBuilder, BidmeshProcess};
pub use binary::bidmesh_binary;
pub use peer::MeshPeer;
pub use phones::{Laptop, Phone, can_play_phones, phone_binary, run_to_end};
pub use port::Port;
pub use process::{Finished, Process, limit_descriptors, open_descriptors, processor_time, resident_bytes};
pub use programs::{LineEnd, Netcat, Shell};
pub use raw::{Inbox, deliver};
pub use real_model::{ModelServer, model_file};
pub use runner::{Run, Runner};
pub use rustix::process::Signal;
pub use setup::require;
pub use shell_device::{ShellDevice, ShellDeviceBuilder, shell_mesh_folder};
pub use wait::{all_at_once, try_until, wait_until};
