//! What one device of the mesh decides, and nothing else: no I/O, no clock, no randomness, no async, no threads.
//!
//! A [`Device`] is handed facts ([`Input`]), and says what is to be done about them ([`Action`], owed) and what it
//! noticed ([`Event`], offered). Everything that a device does can be replayed from its inputs.
//!
//! | module | is | knows nothing of |
//! | --- | --- | --- |
//! | [`wire`] | messages and their bytes | auctions |
//! | `auction` | one task from bid request to winner | other tasks |
//! | [`policy`] | who wins, and why in words | time, messages |
//! | `orchestrator` | all tasks of this device | how a prompt is run |
//! | `bidder` | this device as a worker | other devices' auctions |
//! | `peers` | who is out there | tasks |
//! | `mail` | letters on their way: tried again, given up | what they mean |
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod auction;
mod bidder;
pub mod canonical;
mod chronicle;
pub mod config;
mod context;
pub mod decision;
mod device;
pub mod draw;
pub mod hours;
pub mod id;
pub mod input;
pub mod load;
mod mail;
mod orchestrator;
pub mod outbox;
mod peers;
pub mod policy;
pub mod restore;
pub mod snapshot;
pub mod time;
pub mod wire;

pub use config::Config;
pub use device::{Device, Identity};
pub use input::{Input, Submission};
pub use outbox::{Action, Event, Outbox, Report};
pub use time::Time;
