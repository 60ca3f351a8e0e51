//! The commands, one file each.

pub mod ask;
pub mod cancel;
pub mod completions;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod launch;
pub mod log;
pub mod man;
#[cfg(feature = "slm")]
pub mod model;
pub mod pause;
pub mod peers;
pub mod result;
pub mod send;
pub mod setup;
pub mod start;
pub mod status;
pub mod stop;
pub mod tasks;
pub mod up;
pub mod why;
